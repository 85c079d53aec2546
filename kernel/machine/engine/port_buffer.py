"""Bytes written to one port by the kernel, gathered by host code: a console byte costs no call into Python.

The engine calls the hook for OUT, and for each iteration of OUTS, with host code in front of `Ports.out`: a byte
for the port goes into a buffer as long as the device has made room for it; other bytes, and one that finds no room, are
handed to Python, whose device first takes the gathered ones.  So a device sees the same bytes in the same order, and
makes room only while nothing but the bytes themselves depends on them.

A status register whose value the device knows beforehand, and that does not change by being read, is answered in the
same way, in front of `Ports.in_`.  An access by ring 3 is always handed to Python, which checks whether it is allowed.
"""

import ctypes
import mmap
from functools import cache
from typing import Final

CAPACITY: Final = 4096  # bytes
NO_PORT: Final = 0xFFFF_FFFF
ASK_PYTHON: Final = 0xFFFF_FFFF
IN_AT: Final = 1024  # where the second routine lies in the page


class BufferState(ctypes.Structure):
    """What the host code reads and writes."""

    _fields_ = [
        ("python_out", ctypes.c_void_p),  # the hooks in Python
        ("python_in", ctypes.c_void_p),
        ("in_kernel", ctypes.c_void_p),  # address of CounterState.in_kernel
        ("port", ctypes.c_uint32),
        ("room", ctypes.c_uint32),  # `used` may go up to here
        ("used", ctypes.c_uint32),
        ("status_port", ctypes.c_uint32),
        ("status", ctypes.c_uint32),  # the value of a byte read from there, or ASK_PYTHON
        ("data", ctypes.c_uint8 * CAPACITY),
    ]


# hook(rdi=uc, esi=port, edx=size, ecx=value, r8=state)
OUT_TEMPLATE: Final = """
    cmp esi, [r8+{port}]
    jne python
    cmp edx, 1
    jne python
    mov eax, [r8+{used}]
    cmp eax, [r8+{room}]
    jae python
    mov r9, [r8+{in_kernel}]
    cmp byte ptr [r9], 0
    je python
    mov [r8+rax+{data}], cl
    inc eax
    mov [r8+{used}], eax
    ret
python:
    jmp [r8+{python_out}]
"""

# hook(rdi=uc, esi=port, edx=size, rcx=state) -> eax
IN_TEMPLATE: Final = """
    cmp esi, [rcx+{status_port}]
    jne python
    cmp edx, 1
    jne python
    mov r9, [rcx+{in_kernel}]
    cmp byte ptr [r9], 0
    je python
    mov eax, [rcx+{status}]
    test eax, eax
    js python
    ret
python:
    jmp [rcx+{python_in}]
"""


def source_of(template: str) -> str:
    """Return the assembly source with offsets in place of names."""
    return template.format(**{name: getattr(BufferState, name).offset for name, *_ in BufferState._fields_})


# What GNU as and Keystone make of the sources above; a test assembles them again.
OUT_CODE: Final = bytes.fromhex(
    "413b7018752583fa017520418b4020413b401c73164d8b481041803900740c41884c002cffc041894020c341ff20"
)
IN_CODE: Final = bytes.fromhex("3b7124751783fa0175124c8b49104180390074088b412885c07801c3ff6108")


@cache
def executable_page() -> mmap.mmap:
    """Return the page with the host code; OSError where the host forbids executable memory."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page[: len(OUT_CODE)] = OUT_CODE
    page[IN_AT : IN_AT + len(IN_CODE)] = IN_CODE
    return page


class PortBuffer:
    """The buffer of one port, and the status register beside it."""

    def __init__(self, port: int, status_port: int, in_kernel: int) -> None:
        """`in_kernel` is the address of the byte that says whether the kernel runs."""
        self.ports = (port, status_port)
        self.state = BufferState(port=NO_PORT, status_port=NO_PORT, status=ASK_PYTHON, in_kernel=in_kernel)
        self.taken = 0  # how often there were bytes to take
        self.code = ctypes.addressof(ctypes.c_char.from_buffer(executable_page()))

    def before_out(self, python: int) -> int:
        """Put the host code in front of the hook of OUT at address `python`; return the address to hook instead."""
        self.state.python_out, self.state.port = python, self.ports[0]
        return self.code

    def before_in(self, python: int) -> int:
        """Put the host code in front of the hook of IN at address `python`; return the address to hook instead."""
        self.state.python_in, self.state.status_port = python, self.ports[1]
        return self.code + IN_AT

    def close(self) -> None:
        """Leave every access to Python from now on; gathered bytes can still be taken."""
        self.state.port = self.state.status_port = NO_PORT

    def take(self) -> bytes:
        """Return the bytes gathered since the last call."""
        used = self.state.used
        if not used:
            return b""
        self.state.used = 0
        self.taken += 1
        return ctypes.string_at(ctypes.addressof(self.state) + BufferState.data.offset, used)

    def make_room(self, size: int) -> None:
        """Gather up to `size` more bytes; none with 0."""
        self.state.room = max(0, min(size, CAPACITY))

    def answer(self, status: int | None) -> None:
        """Have the status register read as `status`, a byte, until further notice; None: ask Python each time."""
        self.state.status = ASK_PYTHON if status is None else status
