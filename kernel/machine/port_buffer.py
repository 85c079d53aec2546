"""Bytes written to one port by the kernel, gathered by host code: a console byte costs no call into Python.

The engine calls the hook for OUT, and for each iteration of OUTS, with host code in front of `Ports.out`: a byte
for the port goes into a buffer as long as the device has made room for it; everything else, and the byte that
finds no room, goes to Python, whose device first takes what has been gathered.  So a device sees the same bytes in
the same order, and makes room only while nothing but the bytes themselves depends on them.
"""

import ctypes
import mmap
from functools import cache
from typing import Final

CAPACITY: Final = 4096  # bytes
NO_PORT: Final = 0xFFFF_FFFF


class BufferState(ctypes.Structure):
    """What the host code reads and writes."""

    _fields_ = [
        ("python", ctypes.c_void_p),  # the hook in Python
        ("in_kernel", ctypes.c_void_p),  # address of CounterState.in_kernel
        ("port", ctypes.c_uint32),
        ("room", ctypes.c_uint32),  # `used` may go up to here
        ("used", ctypes.c_uint32),
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
    jmp [r8+{python}]
"""


def source_of(template: str) -> str:
    """Return the assembly source with offsets in place of names."""
    return template.format(**{name: getattr(BufferState, name).offset for name, *_ in BufferState._fields_})


# What GNU as and Keystone make of the source above; a test assembles it again.
OUT_CODE: Final = bytes.fromhex(
    "413b7010752583fa017520418b4018413b401473164d8b480841803900740c41884c001cffc041894018c341ff20"
)


@cache
def executable_page() -> mmap.mmap:
    """Return the page with the host code; OSError where the host forbids executable memory."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page[: len(OUT_CODE)] = OUT_CODE
    return page


class PortBuffer:
    """The buffer of one port."""

    def __init__(self, port: int, in_kernel: int) -> None:
        """`in_kernel` is the address of the byte that says whether the kernel runs."""
        self.port = port
        self.state = BufferState(port=NO_PORT, in_kernel=in_kernel)
        self.code = ctypes.addressof(ctypes.c_char.from_buffer(executable_page()))

    def open(self, python: int) -> int:
        """Put the host code in front of the hook at address `python`; return the address to hook instead."""
        self.state.python = python
        self.state.port = self.port
        return self.code

    def close(self) -> None:
        """Leave every byte to Python from now on; what has been gathered can still be taken."""
        self.state.port = NO_PORT

    def take(self) -> bytes:
        """Return what has been gathered since the last call."""
        used = self.state.used
        if not used:
            return b""
        self.state.used = 0
        return ctypes.string_at(ctypes.addressof(self.state) + BufferState.data.offset, used)

    def make_room(self, size: int) -> None:
        """Have up to `size` more bytes gathered; none with 0."""
        self.state.room = max(0, min(size, CAPACITY))
