"""Two machines, one under each of two clocks, and the command line of a tool that compares them on random programs."""

from __future__ import annotations

import argparse
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from callgate.kernel.machine.blocks.file_loads import EAGER, FileLoads
from callgate.tools.fuzz.children import Children, add_arguments
from callgate.tools.fuzz.clock_subject import Subject

CASES: Final = 100  # programs in one child process

Machines = TypeVar("Machines", bound=Subject)


class Difference(AssertionError):
    """The two clocks do not agree."""


def differing(one: Any, other: Any) -> str:
    """Return where two things that can be seen differ."""
    if isinstance(one, dict):
        return str({key: (one[key], other.get(key)) for key in one if one[key] != other.get(key)})
    if isinstance(one, list | tuple):
        pairs = [(index, a, b) for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]
        return str(pairs[0]) if pairs else f"{len(one)} entries and {len(other)}"
    return f"{one} and {other}"


class BothClocks(ABC, Generic[Machines]):
    """The machine under the clock that is tested, and the one under the clock that it is compared with."""

    def __init__(self, tested: Machines, oracle: Machines) -> None:
        self.both = tested, oracle
        self.counts: Counter[str] = Counter()  # of what has been compared

    def close(self) -> None:
        """Give the machines back."""
        for subject in self.both:
            subject.machine.close()

    @abstractmethod
    def program(self, seed: int) -> int:
        """Run one program; return how much it did.  Difference where the clocks do not agree."""


def child(pair: BothClocks[Any], seed: int, programs: int) -> Counter[str]:
    """Run programs on one pair of machines, and close it; return how much of what was compared."""
    try:
        for number in range(seed, seed + programs):
            try:
                pair.program(number)
            except Difference as difference:
                raise SystemExit(f"seed {number}: {difference}") from difference
    finally:
        pair.close()
    return pair.counts


def run_tool(
    module: str,
    description: str,
    make: Callable[[str, str], BothClocks[Any]],
    same: str,
    arguments: list[str] | None,
) -> int:
    """Run programs in child processes until all are done; return 1 if one crashed or found a difference.

    `module` is the tool's; `make` makes the machines under two clocks, given by name; `same` says what was compared,
    with `{clocks}` for them.
    """
    name = module.rpartition(".")[2]
    parser = argparse.ArgumentParser(prog=name, description=description.partition("\n\n")[0])
    add_arguments(parser, 1000)
    parser.add_argument("--counter", default="blocks", help="the clock to be tested (default blocks)")
    parser.add_argument("--oracle", default="native", help="the clock to compare it with (default native)")
    eager = "have each load that comes to file data look for it first from then on (default after 64 of them)"
    parser.add_argument("--eager", action="store_true", help=eager)
    options = parser.parse_args(arguments)
    if options.eager:
        FileLoads.habits = EAGER
    if options.here:
        print(json.dumps(child(make(options.counter, options.oracle), options.seed, options.programs)))
        return 0
    clocks = ["--counter", options.counter, "--oracle", options.oracle, *["--eager"] * options.eager]
    said = same.format(clocks=f"{options.counter} and {options.oracle}")
    return Children(module, clocks, CASES).run(options, said)
