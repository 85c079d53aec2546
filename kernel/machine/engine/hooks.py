"""Raw hooks: Python functions called by Unicorn without the binding's layers in between.

An exception in such a function cannot pass through the engine: it is kept, the machine is stopped
before the next instruction, and `Machine.run` raises it.
"""

import ctypes
from collections.abc import Callable
from typing import Any

from callgate.kernel.machine.engine.counter import address_of
from callgate.kernel.machine.engine.port_buffer import PortBuffer
from unicorn import UC_HOOK_INSN, UC_HOOK_INSN_INVALID, UC_HOOK_INTR, UC_PROT_ALL
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

POINTER = ctypes.c_void_p
INTERRUPT = ctypes.CFUNCTYPE(None, POINTER, ctypes.c_uint32, POINTER)
INVALID = ctypes.CFUNCTYPE(ctypes.c_bool, POINTER, POINTER)
OUT = ctypes.CFUNCTYPE(None, POINTER, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32, POINTER)
IN = ctypes.CFUNCTYPE(ctypes.c_uint32, POINTER, ctypes.c_uint32, ctypes.c_int, POINTER)
PLAIN = ctypes.CFUNCTYPE(ctypes.c_int, POINTER, POINTER)
ENTRY = ctypes.CFUNCTYPE(None, POINTER, POINTER)
MMIO_READ = ctypes.CFUNCTYPE(ctypes.c_uint64, POINTER, ctypes.c_uint64, ctypes.c_uint, POINTER)
MMIO_WRITE = ctypes.CFUNCTYPE(None, POINTER, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64, POINTER)


class Hooks:
    """The hooks of one engine; keeps every callback alive as long as the engine may call it."""

    def __init__(self, handle: Any, fail: Callable[[BaseException], None], leave: Callable[[], None]) -> None:
        """Exceptions of hooks go to `fail`; `leave` is called at the end of an exception of the CPU."""
        self.handle = handle
        self.fail = fail
        self.leave = leave
        self.alive: list[object] = []

    def _add(self, kind: int, callback: Any, begin: int = 1, end: int = 0, *extra: int, data: int | None = None) -> int:
        self.alive.append(callback)
        hook = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            self.handle,
            ctypes.byref(hook),
            ctypes.c_int(kind),
            callback,
            POINTER(data),
            ctypes.c_uint64(begin),
            ctypes.c_uint64(end),
            *(ctypes.c_int(value) for value in extra),
        )
        if status:
            raise RuntimeError(f"uc_hook_add of kind {kind:#x} failed with {status}")
        return int(hook.value)

    def interrupt(self, function: Callable[[int], None]) -> None:
        """Call `function(vector)` for INT n and exceptions."""

        def callback(_uc: int, vector: int, _data: int) -> None:
            try:
                function(vector)
            except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
                self.fail(error)
            self.leave()

        self._add(UC_HOOK_INTR, INTERRUPT(callback))

    def invalid(self, function: Callable[[], None]) -> None:
        """Call `function()` for invalid opcodes."""

        def callback(_uc: int, _data: int) -> bool:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
                self.fail(error)
            return True

        self._add(UC_HOOK_INSN_INVALID, INVALID(callback))

    def out(self, function: Callable[[int, int, int], None], buffer: PortBuffer | None = None) -> None:
        """Call `function(port, size, value)` for OUT, except for bytes that `buffer` gathers."""
        fail = self.fail

        def callback(_uc: int, port: int, size: int, value: int, _data: int) -> None:
            try:
                function(port, size, value)
            except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
                fail(error)

        hook = OUT(callback)
        if buffer is None:
            self._add(UC_HOOK_INSN, hook, 1, 0, x86.UC_X86_INS_OUT)
            return
        self.alive += (hook, buffer)
        code = POINTER(buffer.before_out(address_of(hook)))
        self._add(UC_HOOK_INSN, code, 1, 0, x86.UC_X86_INS_OUT, data=ctypes.addressof(buffer.state))

    def in_(self, function: Callable[[int, int], int], buffer: PortBuffer | None = None) -> None:
        """Call `function(port, size)` for IN; its result is loaded.  `buffer` answers what it can."""
        fail = self.fail

        def callback(_uc: int, port: int, size: int, _data: int) -> int:
            try:
                return function(port, size)
            except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
                fail(error)
                return 0

        hook = IN(callback)
        if buffer is None:
            self._add(UC_HOOK_INSN, hook, 1, 0, x86.UC_X86_INS_IN)
            return
        self.alive += (hook, buffer)
        code = POINTER(buffer.before_in(address_of(hook)))
        self._add(UC_HOOK_INSN, code, 1, 0, x86.UC_X86_INS_IN, data=ctypes.addressof(buffer.state))

    def instruction(self, number: int, function: Callable[[], object]) -> None:
        """Call `function()` instead of an instruction (RDTSC)."""

        def callback(_uc: int, _data: int) -> int:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
                self.fail(error)
            return 1

        self._add(UC_HOOK_INSN, PLAIN(callback), 1, 0, number)

    def entry(self, number: int, function: Callable[[], None]) -> None:
        """Call `function()` for SYSENTER or SYSCALL."""

        def callback(_uc: int, _data: int) -> None:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
                self.fail(error)

        self._add(UC_HOOK_INSN, ENTRY(callback), 1, 0, number)

    def memory(
        self,
        base: int,
        size: int,
        read: Callable[[int, int], int],
        write: Callable[[int, int, int], None],
    ) -> None:
        """Answer accesses to whole pages that are not RAM: `read(address, size)`, `write(address, size, value)`.

        They may be executed, which the engine does not allow by itself: a fetch is a read.
        """

        def on_read(_uc: int, offset: int, width: int, _data: int) -> int:
            try:
                return read(base + offset, width)
            except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
                self.fail(error)
                return 0

        def on_write(_uc: int, offset: int, width: int, value: int, _data: int) -> None:
            try:
                write(base + offset, width, value)
            except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
                self.fail(error)

        callbacks = MMIO_READ(on_read), MMIO_WRITE(on_write)
        self.alive.extend(callbacks)
        begin, length = ctypes.c_uint64(base), ctypes.c_size_t(size)
        status = uclib.uc_mmio_map(self.handle, begin, length, callbacks[0], None, callbacks[1], None)
        status = status or uclib.uc_mem_protect(self.handle, begin, length, ctypes.c_uint32(UC_PROT_ALL))
        if status:
            raise RuntimeError(f"the bus at {base:#x}, {size} bytes, cannot be mapped: error {status}")
