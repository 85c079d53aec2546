"""The cost of each operation: the ledger between taking a slot and giving it back, added up by operation.

It includes all code that ran meanwhile: kernel, server, disk driver, and other threads. So each of several overlapping
requests counts the whole, and the sums of the operations may exceed the totals of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from callgate.kernel.abi.calls import Operation
from callgate.kernel.machine.observation.ledger import Counts

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel


class OperationCosts:
    """Costs of the operations of one run, from the moment it is made."""

    def __init__(self, kernel: Kernel) -> None:
        """Probe the events of the IPC path in the kernel's image."""
        self.kernel = kernel
        self.begun: dict[tuple[int, int], Counts] = {}  # (endpoint selector, slot) -> the ledger when it was taken
        self.operations: dict[tuple[int, int], int] = {}
        self.totals: dict[int, tuple[int, Counts]] = {}  # operation -> (number, cost)
        steps: dict[str, Callable[[], None]] = {
            "ipc.take": self._take,
            "ipc.fill": self._fill,
            "ipc.release": self._release,
        }
        for site in kernel.image.events:
            if site.name in steps:
                kernel.machine.probe(site.address, steps[site.name])

    def describe(self) -> dict[str, dict[str, object]]:
        """Return by the operation's name how many there were, and the ledger's keys."""
        return {
            operation_name(number): {"n": count, **costs.as_dict()}
            for number, (count, costs) in sorted(self.totals.items())
        }

    def _slot(self) -> tuple[int, int]:
        cpu = self.kernel.machine.cpu
        return cpu.gs, cpu.ecx

    def _take(self) -> None:
        self.begun[self._slot()] = self.kernel.machine.ledger.counts()

    def _fill(self) -> None:
        slot = self._slot()
        self.operations[slot] = self.kernel.machine.cpu.eax
        if slot not in self.begun:  # policy has the slot: a deferred release
            self._take()

    def _release(self) -> None:
        slot = self._slot()
        begun = self.begun.pop(slot, None)
        operation = self.operations.pop(slot, None)
        if begun is None or operation is None:
            return
        count, costs = self.totals.get(operation, (0, Counts()))
        self.totals[operation] = (count + 1, costs + (self.kernel.machine.ledger.counts() - begun))


def operation_name(number: int) -> str:
    """Return the name of an operation, its number if a server has defined it."""
    try:
        return Operation(number).name
    except ValueError:
        return f"{number:#x}"
