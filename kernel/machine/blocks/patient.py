"""The clock of a machine that is not told one: by instruction at first, and by blocks once it has run for a while.

Most runs are too short for a second translation of all code to pay, and they do not even import what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callgate.kernel.machine.engine.counter import NativeCounter, start

if TYPE_CHECKING:
    from callgate.kernel.machine.blocks.block_counter import BlockCounter

PATIENCE: Final = 300_000  # instructions of a machine that go one by one


class PatientCounter(NativeCounter):
    """The clock by instruction, which hands over to the one by blocks between two slices of a run."""

    def __init__(self, uc: int, fail: Callable[[BaseException], None]) -> None:
        """Count on the engine with raw handle `uc`; exceptions of site functions go to `fail`."""
        super().__init__(uc, fail)
        self.fail = fail
        self.patience = PATIENCE
        self.blocks: BlockCounter | None = None
        self.useless = False  # the engine does not make blocks as expected
        self.translations: Any = None

    def connect(self, cpu: Any, translations: Any) -> None:
        """Take the parts of the machine that are made after the clock."""
        self.cpu, self.translations = cpu, translations

    def execute(self, handle: Any) -> int:
        """Run the engine from EIP until it stops; return its status."""
        if self.blocks is None and self.patience <= 0 and not self.useless:
            self._hand_over()
        if self.blocks is not None:
            return self.blocks.execute(handle)
        begun = int(self.state.count)
        status = start(handle, self.cpu.eip)
        self.patience -= int(self.state.count) - begun
        return status

    def _hand_over(self) -> None:
        from callgate.kernel.machine.blocks.block_counter import BlockCounter, NoBlocks

        try:
            self.blocks = BlockCounter(self, self.fail)
            self.blocks.connect(self.cpu, self.translations)
        except NoBlocks:
            self.useless = True

    def restored(self) -> None:
        """The machine has gone back to a snapshot."""
        if self.blocks is not None:
            self.blocks.restored()

    def left(self, linear: int | None, *, attempted: bool = True) -> None:
        """The block that executes has ended: after its last instruction (None), or at a linear address."""
        if self.blocks is not None:
            self.blocks.left(linear, attempted=attempted)

    def refuses(self) -> bool:
        """Whether a device is not to be asked now, since the instruction will be executed again."""
        return self.blocks is not None and self.blocks.refuses()

    def broken_off(self) -> bool:
        """Whether an exception is of no account, since the instruction will be executed again."""
        return self.blocks is not None and self.blocks.broken_off()
