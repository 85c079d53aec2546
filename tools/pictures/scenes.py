"""The machine at a step of a request: registers, message page, slot, endpoint and page-table entry, as they are there.

Nothing here changes the machine, and what is read is on no account of the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from callgate.kernel.abi.layout import Layout, size_of
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.message import Endpoint, Message, MessageFlags, ReplyType
from callgate.kernel.abi.thread import HostedBlock, PushedRegisters
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.programs.kernel_labels import IPC_POST_BATCH, IPC_POST_SLOT, IPC_REQUEST, TAKE_AND_FILL
from callgate.kernel.watching.requests import state_of
from callgate.kernel.watching.thread_view import ThreadView
from callgate.tools.pictures.records import (
    OF_SERVER,
    REGISTERS,
    CpuState,
    EndpointView,
    Held,
    MessageState,
    Scene,
    Six,
    SlotView,
)

if TYPE_CHECKING:
    from callgate.kernel.core.records import EndpointState, Thread
    from callgate.kernel.system import System

T = TypeVar("T", bound=Layout)
SHOWN: Final = 256  # bytes of data
ADDRESSES: Final = 4  # of a reply that carries them
#: Routines that keep the registers of a request in a PushedRegisters of their own, and the register that points to it.
PUSHED: Final = {IPC_REQUEST: "esp", TAKE_AND_FILL: "ebp", IPC_POST_SLOT: "ebp", IPC_POST_BATCH: "ebp"}
STEPS_OF_ASKING: Final = ("take", "fill")


class Scenes:
    """Reads scenes out of one system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.machine = system.machine
        self.symbol_at = system.kernel.image.symbol_at
        self.tasks = system.kernel.state.tasks
        self.pushed: dict[tuple[int, int], int] = {}  # (endpoint, slot) -> address of PushedRegisters

    def routine(self) -> str:
        """Return the routine of the kernel that EIP is in."""
        return self.symbol_at(self.machine.cpu.eip).partition("+")[0].partition(".")[0]

    def read(
        self, kind: str, endpoint: EndpointState, slot: int, client: Thread | None, server: Thread | None
    ) -> Scene:
        """Return the scene of a step of the request in a slot."""
        block = self._read(Endpoint, endpoint.block)
        record = block.slots[slot]
        page = record.physical
        message = Message.from_buffer_copy(self.machine.ram.read(page, PAGE_SIZE, Account.MACHINE))
        tables = endpoint.process is not None  # else its server has ended, and they are another's
        entry = block.window_table + slot * 8 - KERNEL_BASE
        return Scene(
            cpu=self._cpu(),
            message=_message(kind, message),
            slot=self._slot(block, slot),
            endpoint=EndpointView(
                *(block.unused, block.free, block.idle, block.head, block.tail, block.slot_waiters, block.flags),
                ring=bytes(block.ring),
            ),
            page_entry=self.machine.ram.u64(entry, Account.MACHINE) if tables else 0,
            page_linear=block.window_base + slot * PAGE_SIZE,
            server_cr3=endpoint.process.pointers if endpoint.process else 0,
            client=self._client(kind, (endpoint.number, slot), client, bool(message.flags & MessageFlags.POSTED)),
            server=self._server(server) if kind in OF_SERVER else None,
        )

    def _read(self, layout: type[T], physical: int) -> T:
        return layout.from_buffer_copy(self.machine.ram.read(physical, size_of(layout), Account.MACHINE))

    def _cpu(self) -> CpuState:
        cpu = self.machine.cpu
        return CpuState(
            cpu.eip, self._place(cpu.eip), cpu.cpl, cpu.cr3, tuple(getattr(cpu, name) for name in REGISTERS)
        )

    def _place(self, eip: int) -> str:
        if eip >= KERNEL_BASE:
            return self.symbol_at(eip)
        from callgate.kernel.core.symbols import symbol_of

        return symbol_of(self.system.kernel.scheduler.current.process.symbols, eip)

    def _slot(self, block: Endpoint, slot: int) -> SlotView:
        record = block.slots[slot]
        server = block.server_of[slot]
        return SlotView(
            state_of(block, slot).name,
            *(record.physical, record.linear, record.selector, record.client, self._name(record.client)),
            *(server, self._name(server), block.handles[slot]),
        )

    def _name(self, selector: int) -> str:
        thread = self.tasks.threads.get(selector)
        return thread.name if thread else ""

    def _client(self, kind: str, key: tuple[int, int], thread: Thread | None, posted: bool) -> Held | None:
        """Return the registers of the code that asks.

        A client of ring 3 has them in the frame of its gate.  Policy has them on a kernel stack as long as its routine
        runs: until it has posted, or if it waits for the reply until it loads the registers.
        """
        register = PUSHED.get(self.routine()) if kind in ("take", "fill") else None
        if register is not None:
            self.pushed[key] = getattr(self.machine.cpu, register)
        address = self.pushed.get(key)
        if address is None:
            return self._of_thread(thread)
        frame = PushedRegisters.from_buffer_copy(self.machine.paging.read_linear(address, size_of(PushedRegisters)))
        held = Held("on the kernel stack, for policy", _six(frame))
        if kind in ("reload", "abandon") or (kind == "post" and posted):
            del self.pushed[key]
        return held

    def _of_thread(self, thread: Thread | None) -> Held | None:
        if thread is None:
            return None
        try:
            registers = ThreadView(self.system.kernel, thread).regs
        except LookupError:
            return None
        current = self.system.kernel.scheduler.running is thread and self.machine.cpu.cpl == 3
        where = "in the CPU" if current else "in the frame on its kernel stack"
        return Held(where, tuple(getattr(registers, name) for name in REGISTERS))

    def _server(self, thread: Thread | None) -> Held | None:
        if thread is None or not thread.hosted_block:
            return self._of_thread(thread)
        try:
            data = self.machine.paging.read_linear(
                thread.hosted_block, size_of(HostedBlock), cr3=thread.process.pointers
            )
        except PageFault:
            return None
        return Held("in its HostedBlock", _six(HostedBlock.from_buffer_copy(data)))


def _six(structure: object) -> Six:
    return tuple(getattr(structure, name) for name in REGISTERS)


def _message(kind: str, message: Message) -> MessageState:
    return MessageState(
        *(message.operation, message.flags, message.reply, message.count, message.error),
        _six(message),
        *(message.eflags, message.handle, _data(kind, message)),
    )


def _data(kind: str, message: Message) -> str:
    """Return the data of a request before it is answered, those of a reply after the page has left the server."""
    data = bytes(message.data)
    if kind in ("fill", "post", "fetch", "map", "load", "call"):
        return _text(data[: message.count]) if message.flags & MessageFlags.DATA else ""
    if kind not in ("convert", "wake", "reload"):
        return ""
    if message.reply == ReplyType.DATA:
        return _text(data[: message.count])
    if message.reply in (ReplyType.SECTORS, ReplyType.OBJECT):
        shown = [int.from_bytes(data[at : at + 8], "little") for at in range(0, ADDRESSES * 8, 8)]
        return " ".join(f"{value:#x}" for value in shown[: message.count])
    return ""


def _text(data: bytes) -> str:
    text = data[:SHOWN].decode("utf-8", "replace")
    return text + ("\N{HORIZONTAL ELLIPSIS}" if len(data) > SHOWN else "")
