"""The command line: `python -m vaekit data | train | export | runs | classifier`."""

import argparse
import errno
import io
import math
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import vaekit
from vaekit import classifiers, data, provenance, studies, sweep
from vaekit.fleet import device_problem
from vaekit.models.classifiers import NETWORKS
from vaekit.settings import SettingsError, expanded
from vaekit.store import SHORT, StoreError, bundles, default_store, files, load, maintenance, results
from vaekit.sweep import cluster, codes, hosts, image_grids, speed

MORE = 75  # the exit status of a training whose minutes are over and that is not done: EX_TEMPFAIL, try again
DECODERS = 6  # that one export may add to results/


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status. A foreseen error is one message on stderr and status 2."""
    parser = argparse.ArgumentParser(prog="python -m vaekit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    parser.add_argument("--version", action="version", version=version())
    command = commands.add_parser("data", help="download an image set into VAEKIT_DATA, or list all of them")
    sets = command.add_mutually_exclusive_group(required=True)
    sets.add_argument("name", nargs="?", metavar="NAME", help=", ".join(data.NAMES))
    sets.add_argument("--list", action="store_true", help="their names, origin and size, and which are on this machine")
    command.set_defaults(run=fetch)

    command = commands.add_parser("train", help="train and measure what is missing of a study's members")
    choose(command, scale="quick")
    command.add_argument("--minutes", type=float, help="end after so many, all kept; status 75 where more is left")
    command.add_argument("--shard", metavar="I/N", help="the members of part I of N alone, e.g. 2/4: one a machine")
    command.add_argument("--dry-run", action="store_true", help="say what is missing and what it takes; stop there")
    command.add_argument(
        "--later", nargs="+", default=[], metavar="MEASURE",
        help="leave these measures to a later run without it, which takes them at the steps whose weights are stored",
    )  # fmt: skip
    command.add_argument(
        "--cluster", metavar="WHERE",
        help="train on a Dask cluster: local (a process a core, or a GPU), a scheduler's address (tls://head:8786), or "
        "a YAML file with dask-jobqueue's settings (slurm.yaml)",
    )  # fmt: skip
    command.add_argument(
        "--insecure", action="store_true", help="take a cluster between machines without TLS: on a network of your own"
    )
    command.set_defaults(run=train)

    command = commands.add_parser("export", help="merge stored runs into results/: a study's, or those of one scale")
    choose(command, scale=None)
    command.add_argument(
        "--decoders", nargs="*", metavar="KEY",
        help=f"carry the decoders of these runs as well (without a KEY: of those of --scale), {DECODERS} at the most",
    )  # fmt: skip
    place = command.add_mutually_exclusive_group()
    place.add_argument("--to", metavar="DIR", help="write all of it to a folder, for another machine")
    place.add_argument("--from", metavar="DIR", dest="source", help="merge such a folder, not the store")
    command.set_defaults(run=export)

    add_runs(commands.add_parser("runs", help="what the store holds: its status, list, show, verify and clean"))

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
    except (data.DataError, SettingsError, StoreError, cluster.ClusterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status if isinstance(error, cluster.ClusterError) else 2
    except OSError as error:
        if error.filename is None:  # no file's: the output's, say
            raise
        print(f"error: {error.filename} cannot be used ({error.strerror})", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(str(error) or "stopped", file=sys.stderr)
        return 130


def version() -> str:
    """This package's version, and the commit of its checkout where it is in one."""
    commit = provenance.commit()
    return f"vaekit {vaekit.__version__}" + f", commit {commit}" * bool(commit)


def add_runs(command: argparse.ArgumentParser) -> None:
    """The commands on the store itself."""
    commands = command.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("list", help="a line for each run")
    command.add_argument("study", nargs="?", choices=studies.NAMES)
    command.add_argument("--diverged", action="store_true", help="those that diverged alone")
    command.set_defaults(run=list_runs)
    command = commands.add_parser("status", help="what trains now or was stopped: where, and how far it is")
    command.set_defaults(run=status_of_runs)
    command = commands.add_parser("show", help="all that is known of a run")
    command.add_argument("key", metavar="KEY", help="as many digits of it as are needed")
    command.set_defaults(run=show_run)
    command = commands.add_parser("verify", help="read every file of the store and of results/, and name the damaged")
    command.add_argument("keys", nargs="*", metavar="KEY", help="these runs alone")
    command.set_defaults(run=verify_runs)
    command = commands.add_parser("clean", help="say what can be deleted")
    command.add_argument("--quarantine", action="store_true", help="what failed verification, too")
    command.add_argument("--checkpoints", action="store_true", help="the states from which fleets go on, too")
    command.add_argument("--yes", action="store_true", help="delete it")
    command.set_defaults(run=clean_runs)


def choose(command: argparse.ArgumentParser, scale: str | None) -> None:
    """The arguments by which a command's members are chosen."""
    command.add_argument("study", choices=studies.NAMES)
    command.add_argument("--scale", default=scale, help="quick, short or paper")
    command.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="given",
        help="a parameter of the study's notebook, e.g. -p betas '[0.1, 1]' or -p seeds 0-19",
    )  # fmt: skip


def fetch(chosen: argparse.Namespace) -> int:
    """Download an image set; or list what there is."""
    if not chosen.list:
        print(data.fetch(chosen.name))
        return 0
    rows = [("name", "images", "shape", "on this machine", "origin", "how to have it")]
    for row in data.catalogue():
        name, known = row["name"], data.about(row["name"])
        origin = known.origin + f" of {known.copy_of}" * bool(known.copy_of)
        here = "yes" if data.is_available(name) else "no"
        rows.append((name, row["images"], row["shape"], here, origin, row["how to have it"]))
    print("\n".join(maintenance.columns(rows)))
    return 0


def train(chosen: argparse.Namespace) -> int:
    """Train what is missing of a study at a scale."""
    study = studies.study(chosen.study)
    given = dict(chosen.given) | ({"cluster": chosen.cluster} if chosen.cluster is not None else {})
    # Neither a plan for a card nor a cluster's client needs one: whether it is here is asked of who trains on it.
    elsewhere = chosen.dry_run or given.get("cluster", "none") not in ("none", "local")
    planned = given.pop("device", None) if elsewhere and is_absent_card(given.get("device")) else None
    settings = study.Settings.at(chosen.scale, **given)
    device, store = planned or settings.device, default_store()
    if chosen.minutes is not None and not 0 < chosen.minutes < math.inf:
        raise SettingsError(f"--minutes: got {chosen.minutes}; wanted a number above 0")
    refuse_published(settings.scale)
    try:
        spec = study.SPEC.without(chosen.later)
    except SettingsError as error:
        raise SettingsError(f"--later: {error}") from None
    members = study.members(settings)
    if settings.cluster != "none":
        cluster.check(settings.cluster, device, chosen.insecure)
    if chosen.shard is not None:
        whole, members = len(members), sweep.shard(members, *shard_of(chosen.shard))
        say(f"shard {chosen.shard}: {len(members)} of {whole} members")
    if chosen.dry_run:
        machines = settings.cluster != "none" and hosts.expected(settings.cluster, device, chosen.insecure)
        todo = sweep.plan_sweep(spec, members, store)
        sweep.check_readable(spec, todo, store, device)
        sweep.check_images(todo)
        if todo.groups:
            say(f"{len(todo.missing)} of {len(members)} members are missing; timing a little of each kind …")
        print(cluster.report(spec, todo, machines, device, store) if machines else sweep.report(spec, todo, device))
        return 0
    if settings.cluster == "none":
        trained = sweep.run(spec, members, store, device, chosen.minutes, say=say).missing
    else:
        trained = cluster.run(
            f"{study.__name__}:SPEC", members, store, settings.cluster, device, chosen.minutes, say=say,
            insecure=chosen.insecure, later=chosen.later,
        ).missing  # fmt: skip
    ended = [store.record(member.key)["status"] for member in trained if member.key in store]
    left = sweep.plan_sweep(spec, members, store) if chosen.minutes else sweep.Plan()
    print(
        f"{len(ended)} members were trained, {ended.count('diverged')} of them diverged; {len(members)} were asked for"
    )
    if left.missing or left.unmeasured or left.shorter:
        return MORE
    return 1 if ended and set(ended) == {"diverged"} else 0


def is_absent_card(device: str | None) -> bool:
    """Whether this names a GPU that is not in this machine."""
    return bool(re.fullmatch("cuda(:[0-9]{1,2})?", device or "", re.ASCII) and device_problem(str(device)))


def refuse_published(scale: str | None) -> None:
    """At scale "published" there is nothing to train or to export."""
    if scale == "published":
        raise SettingsError(
            "scale: published shows what results/ holds and trains nothing; wanted quick, short or paper"
        )


def say(line: str) -> None:
    """Print at once, also into a file that somebody follows."""
    print(line, flush=True)


def shard_of(given: str) -> tuple[int, int]:
    """What --shard 2/4 means, as (1, 4): the part, counted from 0, and of how many. Raises: SettingsError."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", given, re.ASCII)
    number, of = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= of:
        raise SettingsError(f"--shard: got {given!r}; wanted I/N with I from 1 to N, e.g. 2/4")
    return number - 1, of


def export(chosen: argparse.Namespace) -> int:
    """Merge a study's stored runs, those of the members chosen, or a folder, into its results; or write a folder."""
    study = studies.study(chosen.study)
    spec, path = study.SPEC, results.folder(chosen.study)
    to, source = (given and expanded(given, SettingsError) for given in (chosen.to, chosen.source))
    if source and (chosen.scale or chosen.given or chosen.decoders is not None):
        raise SettingsError("--from merges a folder whole; leave out --scale, -p and --decoders")
    if chosen.given and not chosen.scale:
        raise SettingsError("-p says which members of a scale are meant; give --scale as well")
    refuse_published(chosen.scale)
    if to and files.exists(to) and not (to.is_dir() and not files.entries(to)):
        raise SettingsError(f"--to: {to} is there and not an empty folder; give a new one")
    if source:
        merged = results.read(path).merged(results_of(source, spec.name))
        bundled = results.merged_bundles(path, source)
    else:
        bundled = results.bundle_contents(path)
        members = study.members(study.Settings.at(chosen.scale, **dict(chosen.given))) if chosen.scale else ()
        merged = sweep.tables(spec, members=members, alone=bool(chosen.scale))
        scaled = [member.key for member in members]
        exported = scaled if chosen.scale else list(merged.members)
        decoders = keys_of_decoders(chosen.decoders, scaled, merged) if chosen.decoders is not None else []
        bundled |= new_bundles(spec, exported, decoders, bundled)
        if not merged.members:
            absent = f"nothing of {spec.name}" + " that was chosen" * bool(chosen.scale)
            raise SettingsError(f"{absent} is stored in {default_store().root}, and results/ has nothing; train some")
    commits = sorted({row["commit"] for row in merged.members.values() if row.get("commit")})
    provenance = {"study": spec.name, "measures": spec.versions, "commits": commits}
    results.check_bundles(spec.name, bundled)
    results.write(to or path, merged, provenance, bundled)
    print(f"{len(merged.members)} members, {sum(map(len, merged.measures.values())):,} values: {to or path}")
    return 0


def results_of(source: Path, study: str) -> results.Tables:
    """The tables of another machine's export. Raises StoreError for any damage, SettingsError for another study's."""
    if (other := results.study_of(source)) != study:
        content = f"results of {other}" if other else "no results (`export --to` writes some)"
        raise SettingsError(f"--from: {source} holds {content}; wanted those of {study}")
    if problem := next(results.damage(source), None):
        raise StoreError(problem)
    return results.read(source)


def keys_of_decoders(starts: list[str], scaled: list[str], merged: results.Tables) -> list[str]:
    """The keys of runs that are named by their starts, else of those of the scale that are stored."""
    store = default_store()
    keys = [store.find(start) for start in starts] or [key for key in scaled if key in store]
    if not 1 <= len(keys) <= DECODERS:
        raise SettingsError(
            f"--decoders: {len(keys)} of the runs that are meant are stored; wanted 1 to {DECODERS}: name their keys "
            "(`runs list` shows them), or choose others by --scale and -p"
        )
    if foreign := [key for key in keys if key not in merged.members]:
        raise SettingsError(f"--decoders: run {foreign[0][:SHORT]} is none of this study's, or not chosen")
    return keys


def new_bundles(
    spec: sweep.StudySpec, exported: list[str], decoders: list[str], bundled: dict[str, bytes]
) -> dict[str, bytes]:
    """The bundles that this export adds or extends, by their file names: image grids, and decoders with their codes."""
    store = default_store()
    added: dict[str, bundles.Bundle] = {}

    def bundle(key: str, step: int) -> bundles.Bundle:
        name = bundles.file_name(key, step)
        if name not in added:
            listed = results.bundle_of(spec.name, key, step) if name in bundled else None
            added[name] = listed or bundles.of_run(store.record(key), step)
        return added[name]

    for grid in image_grids.make_all(spec, exported, store, say, also=decoders):
        bundle(grid.key, grid.step).grid = grid
    for key in decoders:
        step = max(store.steps(key), default=0)
        bundle(key, step).decoder = bundles.decoder_of(load(key, step, store))
    for extended in added.values():
        if extended.decoder and extended.grid:
            extended.codes = codes.make(extended.grid, store, say)
    return {name: extended.pack() for name, extended in added.items()}


def list_runs(chosen: argparse.Namespace) -> int:
    """Print a line for each run; name the damaged."""
    maintenance.check(store := default_store())
    lines, damaged = maintenance.listing(store, chosen.study, chosen.diverged)
    print("\n".join(lines))
    return complain(damaged)


def status_of_runs(chosen: argparse.Namespace) -> int:
    """Print a line for each training that took its first step and is not finished."""
    maintenance.check(store := default_store())
    lines = maintenance.status(store, speed.observed(store, results.Tables(), "cpu").seconds_of_measures)
    print("\n".join(lines) if len(lines) > 1 else f"nothing trains into {store.root}, and nothing was stopped there")
    return 0


def show_run(chosen: argparse.Namespace) -> int:
    """Print all that is known of a run."""
    maintenance.check(store := default_store())
    print("\n".join(maintenance.show(store, store.find(chosen.key))))
    return 0


def verify_runs(chosen: argparse.Namespace) -> int:
    """Name every damaged file; status 1 where there is one."""
    store, damaged = default_store(), []
    if not chosen.keys:
        damaged = [line for name in studies.NAMES for line in results.damage(results.folder(name))]
        damaged += classifiers.damage()
        if not files.exists(store.root):
            print(f"there is no store at {store.root}; results/ is verified")
            return complain(damaged)
    maintenance.check(store)
    keys = list(dict.fromkeys(store.find(start) for start in chosen.keys)) or None
    damaged += maintenance.damage(store, keys)
    if not damaged:
        print(f"{len(keys or list(store.keys()))} runs of {store.root}{'' if keys else ' and results/'}: all is whole")
    return complain(damaged)


def clean_runs(chosen: argparse.Namespace) -> int:
    """Say what can be deleted; delete it where that was said."""
    maintenance.check(store := default_store())
    leftovers = maintenance.leftovers(store, chosen.quarantine, chosen.checkpoints)
    for path in leftovers:
        print(f"{maintenance.size_of(path) / 1e6:10,.2f} MB  {path}")
    freed = f"{len(leftovers)} leftovers, {sum(map(maintenance.size_of, leftovers)) / 1e6:,.2f} MB"
    if chosen.yes:
        maintenance.delete(leftovers)
    print(f"{freed}: deleted" if chosen.yes else f"{freed}; --yes deletes them")
    return 0


def complain(damaged: Iterable[str]) -> int:
    """Print what is damaged, may not be read or does not belong there, on stderr; status 1 where something is."""
    kinds = {files.MAY_NOT_BE_READ: "unreadable", files.NOT_THE_STORES: "surplus"}
    lines = [f"{next((kinds[word] for word in kinds if word in line), 'damaged')}: {line}" for line in damaged]
    print("\n".join(lines), file=sys.stderr, end="\n" if lines else "")
    return 1 if lines else 0


def classify(chosen: argparse.Namespace) -> int:
    """Train a data set's classifier, unless it is there."""
    if chosen.epochs is not None and chosen.epochs < 1:
        raise SettingsError(f"--epochs: got {chosen.epochs}; wanted 1 or more")
    if problem := device_problem(chosen.device):
        raise SettingsError(f"--device: {problem}")
    print(classifiers.make(chosen.data, chosen.model, chosen.epochs, chosen.device, say))
    return 0


if __name__ == "__main__":
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it is closed
        # What a terminal has no letter for, in a path or a help, is escaped.
        cast(io.TextIOWrapper, stream).reconfigure(errors="backslashreplace")
    try:
        status = main()
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        status = 141
        if not isinstance(error, BrokenPipeError):  # whoever reads has seen enough, e.g. head
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            print(f"error: the output cannot be written ({error.strerror})", file=sys.stderr)
            status = 2
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would complain again at its end
    sys.exit(status)
