"""The benchmarks' command line: `python -m benchmarks NAME`, or `python -m benchmarks targets`."""

import argparse
import importlib
import io
import sys
from typing import cast

from benchmarks import records

BENCHMARKS = ("fleet", "geometry", "measures", "store", "book", "cluster", "gpu")


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark, print its table and merge it into results/; or judge the targets."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in BENCHMARKS}
    for name, module in modules.items():
        command = commands.add_parser(name, help=(module.__doc__ or name).splitlines()[0])
        command.add_argument("--only", help="run the cases alone whose name contains this")
        command.add_argument("--rounds", type=int, default=module.ROUNDS, help="how often each is timed (%(default)s)")
    commands.add_parser("targets", help="each target beside what was measured; exit 1 where one is missed")
    chosen = parser.parse_args(arguments)
    if chosen.command == "targets":
        return importlib.import_module("benchmarks.targets").main()
    for rows in modules[chosen.command].measure(chosen.rounds, chosen.only or ""):
        # As they come: a run that is cut keeps what it measured.
        print(records.show(records.write(chosen.command, rows, modules[chosen.command].DEVICE)), flush=True)
    return 0


if __name__ == "__main__":
    cast(io.TextIOWrapper, sys.stdout).reconfigure(errors="backslashreplace")  # as `python -m vaekit` does
    sys.exit(main())
