"""Invariants of the whole kernel, checked by code: `Kernel.check`.

Each is a function whose docstring is its sentence; it yields contradictions as text.  They compare policy's
records with a recount: page tables are walked in guest memory, descriptors decoded from it, locks counted by their
holders.  All of them hold at any instant between two instructions, except that those of frames, locks and posted
requests are exact only while no policy is under way (`Facts.quiescent`); their docstrings say what holds then. A host
call that has raised, or a panic, may leave any of them broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.kernel.watching.check_dma import DmaWatch

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel


class Checks:
    """The invariants of one kernel, from the moment it is made: transfers of devices are watched from then on."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.dma = DmaWatch(kernel)

    def check(self) -> list[str]:
        """Return every contradiction as text; none before the kernel has loaded its descriptor table."""
        if not self.kernel.machine.cpu.table("gdtr")[0]:
            return []
        from callgate.kernel.watching.check_facts import Facts
        from callgate.kernel.watching.invariants import INVARIANTS

        facts = Facts(self.kernel, self.dma.found)
        return [f"{invariant.__name__}: {text}" for invariant in INVARIANTS for text in invariant(facts)]
