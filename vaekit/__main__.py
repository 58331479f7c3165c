"""The command line: `python -m vaekit data | train | export | classifier`."""

import argparse
import math
import sys

from vaekit import data, judges, results, runs, studies, sweep
from vaekit.fleet import device_problem
from vaekit.models.classifiers import NETWORKS
from vaekit.settings import SettingsError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status. A foreseen error is one message on stderr and status 2."""
    parser = argparse.ArgumentParser(prog="python -m vaekit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("data", help="download an image set into VAEKIT_DATA")
    command.add_argument("name", metavar="NAME", help=", ".join(data.NAMES))
    command.set_defaults(run=fetch)

    command = commands.add_parser("train", help="train and measure what is missing of a study's members")
    choose(command, scale="quick")
    command.add_argument("--minutes", type=float, help="begin no fleet that would not end within so many minutes")
    command.add_argument("--dry-run", action="store_true", help="say what is missing and what it takes; stop there")
    command.set_defaults(run=train)

    command = commands.add_parser("export", help="merge stored runs into results/: a study's, or those of one scale")
    choose(command, scale=None)
    command.set_defaults(run=export)

    command = commands.add_parser("classifier", help="train the classifier that judges samples of a data set (IS)")
    command.add_argument("data", metavar="DATA", choices=data.NAMES, help=", ".join(data.NAMES))
    command.add_argument(
        "--model", choices=NETWORKS, help=f"{', '.join(NETWORKS)} (cnn for grey images, else resnet20)"
    )
    command.add_argument("--epochs", type=int, help="another number than the network's usual")
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, …")
    command.set_defaults(run=classify)

    chosen = parser.parse_args(arguments)
    try:
        return chosen.run(chosen)
    except (data.DataError, SettingsError, runs.StoreError, results.ResultsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: what was trained is kept, and the same command goes on from there", file=sys.stderr)
        return 130


def choose(command: argparse.ArgumentParser, scale: str | None) -> None:
    """The arguments by which a command's members are chosen."""
    command.add_argument("study", choices=studies.NAMES)
    command.add_argument("--scale", default=scale, help="quick, short or paper")
    command.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="given",
        help="a parameter of the study's notebook, e.g. -p betas '[0.1, 1]'",
    )  # fmt: skip


def fetch(chosen: argparse.Namespace) -> int:
    """Download an image set."""
    print(data.fetch(chosen.name))
    return 0


def train(chosen: argparse.Namespace) -> int:
    """Train what is missing of a study at a scale."""
    study = studies.study(chosen.study)
    settings = study.Settings.at(chosen.scale, **dict(chosen.given))
    store = runs.default_store()
    if chosen.minutes is not None and not 0 < chosen.minutes < math.inf:
        raise SettingsError(f"--minutes: got {chosen.minutes}; wanted a number above 0")
    refuse_published(settings.scale)
    members = study.members(settings)
    if chosen.dry_run:
        print(sweep.report(study.DESIGN, sweep.plan(study.DESIGN, members, store), settings.device))
        return 0
    trained = sweep.run(study.DESIGN, members, store, settings.device, chosen.minutes, say=say).missing
    ended = [store.record(member.key)["status"] for member in trained if member.key in store]
    print(
        f"{len(ended)} members were trained, {ended.count('diverged')} of them diverged; {len(members)} were asked for"
    )
    return 1 if ended and set(ended) == {"diverged"} else 0


def refuse_published(scale: str | None) -> None:
    """At scale "published" there is nothing to train or to export."""
    if scale == "published":
        raise SettingsError(
            "scale: published shows what results/ holds and trains nothing; wanted quick, short or paper"
        )


def say(line: str) -> None:
    """Print at once, also into a file that somebody follows."""
    print(line, flush=True)


def export(chosen: argparse.Namespace) -> int:
    """Merge the store's runs of a study, or of the members chosen, into its results folder."""
    study = studies.study(chosen.study)
    design = study.DESIGN
    if chosen.given and not chosen.scale:
        raise SettingsError("-p says which members of a scale are meant; give --scale as well")
    refuse_published(chosen.scale)
    members = study.members(study.Settings.at(chosen.scale, **dict(chosen.given))) if chosen.scale else ()
    merged = sweep.tables(design, members=members, alone=bool(chosen.scale))
    path = results.folder(design.name)
    commits = sorted({row["commit"] for row in merged.members.values() if row.get("commit")})
    results.write(path, merged, {"measures": design.versions, "commits": commits})
    print(f"{len(merged.members)} members, {sum(map(len, merged.measures.values())):,} values: {path}")
    return 0


def classify(chosen: argparse.Namespace) -> int:
    """Train a data set's classifier, unless it is there."""
    if chosen.epochs is not None and chosen.epochs < 1:
        raise SettingsError(f"--epochs: got {chosen.epochs}; wanted 1 or more")
    if problem := device_problem(chosen.device):
        raise SettingsError(f"--device: {problem}")
    print(judges.make(chosen.data, chosen.model, chosen.epochs, chosen.device, say))
    return 0


if __name__ == "__main__":
    sys.exit(main())
