"""A thread of ring 3 in a gate, on a plain IPC room, for unit tests of handlers of calls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from callgate.kernel.abi.memory import KERNEL_BASE, USER_HEAP
from callgate.kernel.abi.thread import GateFrame
from callgate.kernel.core.control_block import ControlBlock
from callgate.kernel.core.coroutines import routine
from callgate.kernel.core.records import Process
from callgate.kernel.gates.caller import Caller
from plain_ipc import Ipc

FILES = USER_HEAP + 0x10_0000  # an address in a window on a file


class Gate(Ipc):
    """The shell's thread in a gate; `self.frame` are its registers."""

    def __init__(self) -> None:
        super().__init__()
        self.run(self.thread)
        address = self.thread.stack - 17 * 4
        self.threads.block(self.thread)["frame"] = address
        self.frame: ControlBlock = self.threads.overlay(self.thread, GateFrame, address)
        self.asked: list[tuple[Any, ...]] = []
        self.window: object = None
        self.reading = SimpleNamespace(fault=self.fault, at=lambda _process, _address: self.window)
        self.caller = Caller(self.guest, self.processes, self.reading)

    async def fault(self, process: Process, address: int) -> bool:
        """Stand in for `Reading.fault`: a page of a file is there after one wait."""
        self.asked.append(("fault", address))
        if address < FILES:
            return False
        await routine("block")
        self.processes.give_page(process, address & -4096, 0x8000_0000_0000_0005)
        return True

    def path(self, text: bytes) -> None:
        """Leave a path as the gate does that has copied it."""
        page = self.threads.block(self.thread)["path_page"] - KERNEL_BASE
        self.guest.ram.view(page, len(text))[:] = text
        self.frame["ecx"] = len(text)

    def user_memory(self) -> Any:
        if USER_HEAP not in self.shell.windows:
            self.processes.allocate(self.shell, 4096)
        return self.processes.memory_of(self.shell)
