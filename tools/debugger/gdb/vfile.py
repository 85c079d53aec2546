"""Files that gdb reads through the connection (vFile): the programs with their symbols, from memory, read-only.

A program of ours has the name `/callgate/NAME.elf`; the sources that its lines name can be read too.  Any other one
that the guest has started is `/callgate/started/DIGEST/NAME`, as the kernel has read it from its volume.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callgate.asm.user import PROGRAMS
from callgate.tools.debugger.debuggee.programs import KERNEL, debug_file, program_of
from callgate.tools.debugger.gdb.protocol.errors import Unknown
from callgate.tools.debugger.gdb.protocol.packets import MOST, escape

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.tools.debugger.debuggee import Debuggee

FOLDER: Final = "/callgate/"
STARTED: Final = FOLDER + "started/"
ENOENT, EBADF, EINVAL, EROFS = 2, 9, 22, 30  # as the protocol numbers them (GDB manual, "Errno Values")
REGULAR: Final = 0o100444
WRITES: Final = 0x0003  # flags of an open for writing
MOST_READ: Final = MOST // 2 - 64  # every byte may have to be escaped


def path_of(program: str) -> str:
    """Return the name under which a program's file can be opened."""
    return f"{FOLDER}{program}.elf"


def exec_file(debuggee: Debuggee, process: Process) -> str:
    """Return the name of a process's program; nothing if its file is not known."""
    program = program_of(process)
    if program is not None:
        return path_of(program)
    started = debuggee.programs.name_of(process)
    return "" if started is None else STARTED + started


@cache
def sources() -> frozenset[str]:
    """Return the paths of the sources of all programs."""
    from callgate.kernel.programs.images import kernel_image, program_image

    images = [kernel_image(), *map(program_image, PROGRAMS)]
    return frozenset(line.file for image in images for line in image.lines)


def content(debuggee: Debuggee, path: str) -> bytes | None:
    """Return a file's bytes, None if there is none of this name."""
    if path.startswith(STARTED):
        return debuggee.programs.file(path.removeprefix(STARTED))
    name = path.removeprefix(FOLDER).removesuffix(".elf")
    if path == path_of(name) and (name == KERNEL or name in PROGRAMS):
        return debug_file(name)
    if path in sources():
        try:
            return Path(path).read_bytes()
        except OSError:
            return None
    return None


class Files:
    """The files that one gdb has open."""

    def __init__(self, debuggee: Debuggee) -> None:
        self.debuggee = debuggee
        self.open: dict[int, tuple[int, bytes]] = {}  # number and bytes, by descriptor
        self.next = 3
        self.numbers: dict[str, int] = {}  # of files, so that gdb sees the same one again

    def handle(self, operation: str, arguments: list[str]) -> bytes:
        """Answer `vFile:operation:arguments`; Unknown for an operation that there is not."""
        function = getattr(self, f"_{operation}", None)
        if operation not in (
            "setfs",
            "open",
            "close",
            "pread",
            "pwrite",
            "fstat",
            "stat",
            "lstat",
            "unlink",
            "readlink",
        ):
            raise Unknown
        assert function is not None
        try:
            answer: bytes = function(*arguments)
        except (TypeError, ValueError):
            return failure(EINVAL)
        return answer

    def _setfs(self, _process: str) -> bytes:
        return b"F0"

    def _open(self, name: str, flags: str, _mode: str) -> bytes:
        path = bytes.fromhex(name).decode("utf-8", "replace")
        data = content(self.debuggee, path)
        if data is None:
            return failure(ENOENT)
        if int(flags, 16) & WRITES:
            return failure(EROFS)
        if len(self.open) >= 64:
            return failure(24)
        descriptor, self.next = self.next, self.next + 1
        self.open[descriptor] = self.numbers.setdefault(path, len(self.numbers) + 1), data
        return b"F%x" % descriptor

    def _close(self, descriptor: str) -> bytes:
        return b"F0" if self.open.pop(int(descriptor, 16), None) else failure(EBADF)

    def _pread(self, descriptor: str, count: str, offset: str) -> bytes:
        entry = self.open.get(int(descriptor, 16))
        if entry is None:
            return failure(EBADF)
        begin = int(offset, 16)
        piece = entry[1][begin : begin + min(int(count, 16), MOST_READ)] if begin >= 0 else b""
        return b"F%x;" % len(piece) + escape(piece)

    def _pwrite(self, *_arguments: str) -> bytes:
        return failure(EROFS)

    def _unlink(self, _name: str) -> bytes:
        return failure(EROFS)

    def _readlink(self, _name: str) -> bytes:
        return failure(EINVAL)

    def _fstat(self, descriptor: str) -> bytes:
        entry = self.open.get(int(descriptor, 16))
        return failure(EBADF) if entry is None else status(*entry)

    def _stat(self, name: str) -> bytes:
        path = bytes.fromhex(name).decode("utf-8", "replace")
        data = content(self.debuggee, path)
        return failure(ENOENT) if data is None else status(self.numbers.setdefault(path, len(self.numbers) + 1), data)

    _lstat = _stat


def failure(number: int) -> bytes:
    """Return the answer for an error."""
    return b"F-1,%x" % number


def status(number: int, data: bytes) -> bytes:
    """Return the answer of fstat (GDB manual, "struct stat"): device, inode, mode, links, sizes, no times."""
    record = struct.pack(
        ">IIIIIIIQQQIII", 0, number, REGULAR, 1, 0, 0, 0, len(data), 4096, -(-len(data) // 512), 0, 0, 0
    )
    return b"F%x;" % len(record) + escape(record)
