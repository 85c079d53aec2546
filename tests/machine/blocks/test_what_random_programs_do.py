"""The random programs that hold both clocks against each other do all that may end a block early, and often enough."""

from collections import Counter

import pytest
from callgate.kernel.machine.blocks.block_code import ASKS, KNOWN, LENGTH, SHAPE_SHIFT
from callgate.tools.fuzz.clock_subject import OTHER, TABLES, Subject
from callgate.tools.fuzz.stress_clock import MORE, Pair

PAGE_FAULT, TIMER = 14, 0x20
REP = {0xF2, 0xF3}
PROGRAMS = 200
# How often each has happened at least, in the run by blocks of 200 programs.
WANTED = {
    "a fault within a plain block": 100,
    "a fault at an iteration of REP": 10,
    "a page fault": 300,
    "an exception of another kind": 100,
    "INT n": 50,
    "a timer's interrupt": 300,
    "a timer's interrupt at an instant of its own": 100,
    "a device comes to within a plain block": 100,
    "a store into the block that executes": 50,
    "a load from a device": 50,
    "a store to a device": 50,
    "a port read": 20,
    "a port written": 20,
    "a host call": 20,
    "a probe": 20,
    "a breakpoint": 5,
    "an event of a device": 20,
    "a single step": 500,
    "a slice of many instructions": 500,
    "a limit within a block": 250,
    "a snapshot": 50,
    "a restore": 50,
    "code changed by the host": 100,
    "an exception in ring 3": 100,
    "an exception in ring 0": 100,
    "an exception in the other address space": 20,
    "a block of the other address space": 20,
}
LOGGED = {
    "load": "a load from a device",
    "store": "a store to a device",
    "in": "a port read",
    "out": "a port written",
    "host call": "a host call",
    "site": "a probe",
    "event": "an event of a device",
}


class Census:
    """Counts what happens on the machine that goes by blocks."""

    def __init__(self, patch):
        self.seen, self.instants = Counter(), set()
        self.pair = Pair("blocks", "native")
        self.subject = self.pair.both[0]
        self.machine, self.counter = self.subject.machine, self.subject.machine.counter
        look, touched, restarted = self.counter._look, self.counter._touched, self.counter._restarted
        slowly, left = self.counter._go_slowly, self.counter.left
        machine, seen = self.machine, Subject.seen
        patch.setattr(self.counter, "_look", lambda *block: self.looked() or look(*block))
        patch.setattr(self.counter, "_touched", lambda: self.add("a device comes to within a plain block") or touched())
        patch.setattr(
            self.counter, "_restarted", lambda at: self.add("a store into the block that executes") or restarted(at)
        )
        patch.setattr(self.counter, "_go_slowly", lambda until: self.slow(until) or slowly(until))
        patch.setattr(machine.traps.counter, "left", lambda at, **how: self.leaves(at) or left(at, **how))
        run, snapshot, restore, changed = machine.run, machine.snapshot, machine.restore, machine.code_changed
        patch.setattr(machine, "run", lambda **how: self.ran(how) or run(**how))
        patch.setattr(machine, "snapshot", lambda: self.add("a snapshot") or snapshot())
        patch.setattr(machine, "restore", lambda kept: self.add("a restore") or restore(kept))
        patch.setattr(machine, "code_changed", lambda *where: self.add("code changed by the host") or changed(*where))
        machine.traps.observer = self.delivered
        patch.setattr(Subject, "seen", lambda subject, stop: self.read(subject, seen(subject, stop), stop))

    def add(self, what):
        self.seen[what] += 1

    @property
    def elsewhere(self):
        return self.machine.cpu.cr3 == TABLES + OTHER

    def looked(self):
        if self.elsewhere:
            self.add("a block of the other address space")

    def slow(self, until):
        if until == self.machine.state.limit:
            self.add("a limit within a block")

    def ran(self, how):
        self.add("a single step" if how["fuel"] == 1 else "a slice of many instructions")

    def leaves(self, linear):
        word, begin = self.machine.state.block_word, self.machine.state.block_address
        if linear is not None and word & LENGTH:
            shape = self.counter.plain.shapes[(word & ~(KNOWN | ASKS)) >> SHAPE_SHIFT]
            if linear - begin in shape[:-1]:
                self.add("a fault within a plain block")

    def delivered(self, incident):
        if incident.external:
            if incident.vector == TIMER:
                self.add("a timer's interrupt")
                self.instants.add((self.machine.clock.retired, incident.eip))
            return
        what = "INT n" if incident.software else "a page fault" if incident.vector == PAGE_FAULT else ""
        self.add(what or "an exception of another kind")
        self.add("an exception in ring 3" if self.machine.cpu.cpl else "an exception in ring 0")
        if self.elsewhere:
            self.add("an exception in the other address space")
        code = self.machine.traps._mapped(incident.eip, 1)
        if incident.vector == PAGE_FAULT and not incident.software and code and code[0] in REP:
            self.add("a fault at an iteration of REP")

    def read(self, subject, found, stop):
        if subject is self.subject:
            self.seen["a breakpoint"] += stop.reason == "breakpoint"
            for entry in found[-1]:
                if entry[0] in LOGGED:
                    self.add(LOGGED[entry[0]])
        return found


@pytest.mark.thorough(only=True)
@pytest.mark.timeout(900)
def test_two_hundred_programs_do_all_that_may_tell_the_clocks_apart(monkeypatch):
    census = Census(monkeypatch)
    for seed in range(MORE, MORE + PROGRAMS):
        census.pair.program(seed)
    census.seen["a timer's interrupt at an instant of its own"] = len(census.instants)
    census.pair.close()
    assert {what: (census.seen[what], least) for what, least in WANTED.items() if census.seen[what] < least} == {}
