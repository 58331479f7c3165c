"""What the settings of all studies share."""

from collections.abc import Iterable
from dataclasses import dataclass

from vaekit import runs, settings
from vaekit.data import DataError, load, problem
from vaekit.fleet import PRECISIONS, device_problem
from vaekit.settings import option


@dataclass(frozen=True, kw_only=True)
class StudySettings(settings.Settings):
    """Seeds, data, precision and device, and what can stand against a run before it begins."""

    seeds: tuple[int, ...] = option("seed numbers", at_least=0, below=2**63)
    data: tuple[str, ...] = option("image sets", check=problem)
    precision: str = option("arithmetic of the training", choices=tuple(PRECISIONS))
    device: str = option("cpu, cuda, cuda:1, …", check=device_problem)

    def splits(self) -> Iterable[tuple[str, str, int | None]]:
        """(data set, split, n_train) of every training set that is asked for; a study may say others."""
        return [(name, "own", None) for name in self.data]

    @classmethod
    def surroundings(cls, scale: str | None) -> Iterable[str]:
        """A store that cannot be written, unless nothing will be trained."""
        obstacle = runs.default_store().obstacle()
        return [obstacle] if obstacle and scale != "published" else []

    def problems(self) -> Iterable[str]:
        """Data sets that are not at hand, and splits that they do not have."""
        found = []
        for name, split, n_train in self.splits() if self.scale != "published" else ():
            try:
                load(name).split(split, n_train)
            except DataError as error:
                found.append(str(error))
        return dict.fromkeys(found)
