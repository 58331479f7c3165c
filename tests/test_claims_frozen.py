"""All verdicts on tables that were frozen, word for word: a change of the code is no change of what was found."""

import gzip
import hashlib
import json
from importlib import import_module
from pathlib import Path

import pytest

from vaekit import claims, studies
from vaekit.store import results, table

FROZEN = Path(__file__).parent / "frozen"
WANTED = json.loads((FROZEN / "verdicts.json").read_text(encoding="utf-8"))


def frozen(study: str):
    """The tidy table of a study, as it was."""
    contents = {name: gzip.decompress((FROZEN / study / f"{name}.gz").read_bytes()) for name in results.TABLES}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    provenance = json.dumps({"sha256": hashes}).encode()
    return table.frame(results.parse(Path(study), contents | {results.PROVENANCE: provenance}))


@pytest.mark.parametrize("study", sorted(path.name for path in FROZEN.iterdir() if path.is_dir()))
def test_the_verdicts_on_the_frozen_tables_are_as_they_were(study):
    claims_of_study = import_module(f"vaekit.studies.{study}.claims").CLAIMS
    rows = {verdict.number: verdict.row() for verdict in claims.verdicts(claims_of_study, frozen(study))}
    first = str(1 + studies.PAPERS.index(study))
    assert rows == {number: row for number, row in WANTED.items() if number.split(".")[0] == first}
