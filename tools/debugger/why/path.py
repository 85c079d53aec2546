"""The path of a run: which instructions were executed in a stretch of it, one after the other."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.engine.counter import address_of
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.bus import DmaError
from callgate.tools.debugger.target import Target
from callgate.tools.debugger.why.locations import FAR_RETURNS, SEGMENTS, WHOLE
from capstone import CS_ARCH_X86, CS_MODE_32, Cs
from unicorn import UC_HOOK_CODE
from unicorn.unicorn_py3.unicorn import uclib

CODE: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)
LONGEST: Final = 15  # bytes of an instruction
POPS_ALL: Final = ("popal", "popaw")
PUSHES_ALL: Final = ("pushal", "pushaw")
# Capstone tells the stack pointer of PUSH and POP of general registers, and not of segment registers, far transfers, …
STACK: Final = frozenset(
    (
        *("push", "pushfd", "pushf", "pop", "popfd", "popf", "enter", "leave", *POPS_ALL, *PUSHES_ALL),
        *("call", "lcall", "ret", "retf", "iretd", "iret", "int", "int3", "into"),
    )
)
FRAMES: Final = ("enter", "leave")
GENERAL: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")

Known = TypeVar("Known")


@dataclass(slots=True)
class Path:
    """The instructions of a stretch: `at[n]` is the linear address of the one after which n had retired."""

    at: dict[int, int] = field(default_factory=dict)
    spaces: list[tuple[int, int]] = field(default_factory=list)  # (instructions retired, CR3 from then on)

    def space(self, retired: int) -> int:
        """Return CR3 as it was while an instruction was executed."""
        return next((cr3 for begin, cr3 in reversed(self.spaces) if begin + 1 < retired), self.spaces[0][1])


class Tracer:
    """Notes the path of a system while it runs."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.machine = target.machine
        self.decoder = Cs(CS_ARCH_X86, CS_MODE_32)
        self.decoder.detail = True
        self.decoded: dict[tuple[int, int], Any] = {}
        self.alive: list[object] = []  # the engine may call a hook that it was told to forget

    @contextmanager
    def tracing(self) -> Iterator[Path]:
        """Note the path for as long as the block lasts."""
        machine, state = self.machine, self.machine.state
        path = Path(spaces=[(-1, machine.cpu.cr3)])
        at = path.at

        def executed(_uc: int, address: int, _size: int, _data: int) -> None:
            at[state.count] = address & 0xFFFF_FFFF  # the counting hook has been called before

        with self._hooked(executed), self._at_loads_of_cr3(lambda site: self._space_noted(path, site)):
            yield path
        at.pop(machine.clock.retired + 1, None)

    @contextmanager
    def following(self, known_by: Callable[[Any], Known], executed: Callable[[Known], None]) -> Iterator[None]:
        """Call `executed` before each instruction with what `known_by` has made of it when it was decoded.

        `known_by` gets None where there is no instruction.  They are decoded as they are now, unlike those of a `Path`.
        """
        kernel: dict[int, Known] = {}
        user: dict[int, Known] = {}  # of the address space that CR3 has now

        def hook(_uc: int, address: int, _size: int, _data: int) -> None:
            address &= 0xFFFF_FFFF
            known = user if address < KERNEL_BASE else kernel
            if address not in known:
                code = self._code(address, self.machine.cpu.cr3)
                known[address] = known_by(next(self.decoder.disasm(code, address, 1), None))
            executed(known[address])

        with self._hooked(hook), self._at_loads_of_cr3(lambda _site: user.clear):
            yield

    @contextmanager
    def _at_loads_of_cr3(self, what: Callable[[int], Callable[[], None]]) -> Iterator[None]:
        """Call `what(site)` at each instruction of the kernel that loads CR3."""
        machine = self.machine
        probes = [machine.probe(site, what(site)) for site in self._loads_of_cr3()]
        try:
            yield
        finally:
            for probe in probes:
                machine.unprobe(probe)

    @contextmanager
    def _hooked(self, function: Callable[[int, int, int, int], None]) -> Iterator[None]:
        """Call a function before each instruction: with the engine, the address, and two more."""
        machine = self.machine
        callback = CODE(function)
        self.alive.append(callback)
        handle = self._add(callback)
        machine.state.watched += 1
        machine.translations.flush_code()  # code that was translated before calls no hook
        try:
            yield
        finally:
            uclib.uc_hook_del(machine.handle, handle)
            machine.state.watched -= 1
            machine.translations.flush_code()

    def _add(self, callback: object) -> ctypes.c_size_t:
        handle = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            self.machine.handle,
            ctypes.byref(handle),
            ctypes.c_int(UC_HOOK_CODE),
            ctypes.c_void_p(address_of(callback)),
            None,
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )
        if status:
            raise RuntimeError(f"uc_hook_add for a trace failed with {status}")
        return handle

    def _loads_of_cr3(self) -> list[int]:
        marks = self.target.system.kernel.image.marks if self.target.has_kernel else ()
        return [mark.address for mark in marks if mark.name == "cr3_loads"]

    def _space_noted(self, path: Path, site: int) -> Any:
        """Return a function that notes the value that a `mov cr3, r32` is about to load."""

        def note() -> None:
            instruction = self.decode(site, 0)
            register = instruction.reg_name(instruction.operands[1].reg)
            path.spaces.append((int(self.machine.state.count), getattr(self.machine.cpu, register)))

        return note

    def decode(self, address: int, cr3: int) -> Any:
        """Return a decoded instruction with its operands, None where there is none."""
        key = address, cr3 if address < KERNEL_BASE else 0
        if key not in self.decoded:
            self.decoded[key] = next(self.decoder.disasm(self._code(address, cr3), address, 1), None)
        return self.decoded[key]

    def _code(self, address: int, cr3: int) -> bytes:
        paging = self.machine.paging
        if not paging.mode().paging:
            return self.machine.ram.read(address, LONGEST, Account.OBSERVER)
        code = b""
        space = cr3 or self.machine.cpu.cr3
        try:
            while len(code) < LONGEST:
                linear = address + len(code)
                physical = paging.walk(linear, space).physical
                if physical is None:
                    break
                size = min(LONGEST - len(code), 0x1000 - linear % 0x1000)
                code += self.machine.ram.read(physical, size, Account.OBSERVER)
        except (PageFault, DmaError):
            pass
        return code

    def reads(self, instruction: Any) -> set[str]:
        """Return the general registers that an instruction may read."""
        if instruction is None:
            return set()
        if instruction.mnemonic in PUSHES_ALL:
            return set(GENERAL)
        read, _ = instruction.regs_access()
        return self._general(instruction, read)

    def writes(self, instruction: Any) -> set[str]:
        """Return the general registers and segment registers of data that an instruction may change."""
        if instruction is None:
            return set()
        if instruction.mnemonic in POPS_ALL:
            return set(GENERAL)
        _, written = instruction.regs_access()
        segments = {name for name in map(instruction.reg_name, written) if name in SEGMENTS}
        segments |= set(SEGMENTS) if instruction.mnemonic in FAR_RETURNS else set()
        return self._general(instruction, written) | segments

    def _general(self, instruction: Any, told: Any) -> set[str]:
        """Return the general registers among those that Capstone has told, and those of the stack."""
        found = {WHOLE[name] for name in map(instruction.reg_name, told) if name in WHOLE}
        found |= {"esp"} if instruction.mnemonic in STACK else set()
        return found | ({"ebp"} if instruction.mnemonic in FRAMES else set())
