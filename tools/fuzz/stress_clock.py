"""Random programs under the clock by blocks and under the clock by instruction: both must make the same run.

    python -m callgate.tools.fuzz.stress_clock --programs 10000 --seed 1

A program runs on two machines, in slices of random length down to single steps.  Between slices breakpoints and probes
come and go, interrupt lines rise, the host changes code, and the machines go back to a snapshot.  A device with ports
and registers answers with the time, raises lines and schedules events, so that it notices when it is asked a little
earlier or later.  After every slice the stop, the registers, the ledger and all that devices, handlers and listeners
have seen must be the same; at the end memory, too.  CR2 is compared in handlers of page faults: before that, the engine
may have put an address there to which code runs on.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from callgate.tools.fuzz.both_clocks import BothClocks, Difference, differing, run_tool
from callgate.tools.fuzz.clock_programs import CODE, READ_ONLY, Generator, Program
from callgate.tools.fuzz.clock_subject import OTHER_CODE, USER, Subject

SPENT = 2_500  # instructions of a program
SLICES = 120
MORE = 100_000  # seeds from this one on make programs with call gates and two address spaces as well


class Pair(BothClocks[Subject]):
    """The two machines."""

    def __init__(self, counter: str, oracle: str) -> None:
        super().__init__(Subject(counter), Subject(oracle))

    def program(self, seed: int) -> int:
        """Run one program; return the instructions retired.  Difference where the clocks do not agree."""
        rng = random.Random(seed)  # noqa: S311
        program, tick = Generator(rng, more=seed >= MORE).make(), rng.choice((0, 0, 1, 1, 2, 5, 300))
        for subject in self.both:
            subject.load(program, seed, tick)
        steps = rng.choice(((1,), (1, 2, 7, 60), (1, 40, 900), (300, 2000), (2500,)))
        kept: list[Any] | None = None
        begun = self.both[0].machine.clock.retired
        for number in range(SLICES):
            done = self._slice(rng, rng.choice(steps), number)
            if done or self.both[0].machine.clock.retired - begun > SPENT:
                break
            choice = rng.random()
            if choice < 0.06 and kept is None:
                kept = [subject.machine.snapshot() for subject in self.both]
            elif choice < 0.1 and kept is not None:
                for subject, snapshot in zip(self.both, kept, strict=True):
                    subject.machine.restore(snapshot)
            else:
                self._act(rng, program)
        memories = [subject.memory() for subject in self.both]
        for subject in self.both:
            subject.clear()
        if memories[0] != memories[1]:
            raise Difference("memory differs at the end")
        retired = int(self.both[0].machine.clock.retired) - begun
        self.counts["instructions"] += retired
        return retired

    def _slice(self, rng: random.Random, fuel: int, number: int) -> bool:
        until = rng.choice(self.both[0].program.starts) if rng.random() < 0.15 else None
        found = []
        for subject in self.both:
            stop = subject.machine.run(fuel=fuel, until=until)
            found.append(subject.seen(stop))
        for name, one, other in zip(("stop", "registers", "ledger", "numbers", "log"), *found, strict=True):
            if one != other:
                raise Difference(f"slice {number} of {fuel}: {name}: {differing(one, other)}")
        self.counts.update({"slices": 1, "entries of logs": len(found[0][-1])})
        return str(found[0][0]).startswith(("triple", "halt", "not-modelled"))

    def _act(self, rng: random.Random, program: Program) -> None:
        """Let the host do something between two slices, the same to both."""
        choice, place = rng.random(), rng.choice(program.starts)
        value = rng.choice((b"\x40", b"\x90", b"\x0f\x0b", b"\xcd\x80"))
        for subject in self.both:
            machine = subject.machine
            if choice < 0.05:
                subject.toggle(place)
            elif choice < 0.1:
                (machine.breakpoints.remove if place in machine.breakpoints else machine.breakpoints.add)(place)
            elif choice < 0.15:
                machine.pic.raise_line(1)
                machine.pic.lower_line(1)
            elif choice < 0.2:
                base = OTHER_CODE if program.more and place & 1 else USER
                machine.ram.write(place - CODE + base, value)
                machine.code_changed(place - CODE + base, len(value))
            elif choice < 0.22:
                subject.map(READ_ONLY, USER + 0x1_4000 | (7 if place & 1 else 5))
                machine.flush_tlb()


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    return run_tool(
        "callgate.tools.fuzz.stress_clock",
        __doc__,
        Pair,
        "after each slice the stop, registers, ledger, position and logs were the same under {clocks}, and memory at "
        "the end of each program",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
