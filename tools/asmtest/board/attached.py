"""What a test may attach to a machine, and has to be taken off before the next test: a snapshot does not hold it."""

from __future__ import annotations

from typing import Any

from callgate.kernel.machine import Machine


class Attached:
    """Breakpoints, probes and listeners of a machine, and the two functions that others may fill in."""

    def __init__(self, machine: Machine) -> None:
        """Note what is attached now."""
        self.machine = machine
        self.lent = False
        self.breakpoints: set[int] = set()
        self.probes: set[int] = set()
        self.listeners: list[Any] = []
        self.note()

    def note(self) -> None:
        """What is attached now stays."""
        machine = self.machine
        if machine.breakpoints.numbers.keys() != self.breakpoints:
            self.breakpoints = set(machine.breakpoints.numbers)
        if machine.counter.sites.asked != self.probes:
            self.probes = set(machine.counter.sites.asked)
        if machine.stream.listeners != self.listeners:
            self.listeners = machine.stream.listeners[:]
        self.functions = machine.on_interrupt, machine.dma_watch

    def lend(self) -> None:
        """The machine is a test's from now on: take off what the one before has left; `lent` says so until `drop`."""
        self.drop()
        self.lent = True

    def drop(self) -> None:
        """Take off what has been attached since `note`."""
        machine, self.lent = self.machine, False
        machine.ledger.plain_since = None  # it may have been restored since the test began, and changed after that
        machine.breakpoints.enabled = True
        machine.on_interrupt, machine.dma_watch = self.functions
        if machine.breakpoints.numbers.keys() != self.breakpoints:
            for address in machine.breakpoints.numbers.keys() - self.breakpoints:
                machine.breakpoints.remove(address)
        if machine.stream.listeners != self.listeners:
            for listener, _ in machine.stream.listeners[:]:
                if not any(listener is kept for kept, _ in self.listeners):
                    machine.stream.unsubscribe(listener)
        if not machine.counter.sites.asked <= self.probes:  # those of breakpoints and listeners are gone already
            for number in machine.counter.sites.asked - self.probes:
                machine.unprobe(number)
