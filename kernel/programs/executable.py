"""Programs: ELF32 executables as the loader wants them (System V ABI, gABI chapter 5).

The program headers are read here, not by pyelftools, which reads ELF elsewhere: it refuses files that can be run, since
it looks at the section headers first; it takes 70 times as long for each; and a boot would be a tenth longer for its
import.  A test compares what both make of damaged files.
"""

from typing import NamedTuple

from callgate.asm.assembler.output.elf_format import EM_386, ET_EXEC, HEADER, MAGIC, PF_W, PF_X, PROGRAM_HEADER, PT_LOAD
from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import PROGRAM_HEADERS, PROGRAM_MEMORY
from callgate.kernel.common.record import record
from callgate.kernel.core.errors import CallerError


class Segment(NamedTuple):
    """A loadable segment; `memory_size` bytes at `address`, of which `data` come first, the rest zero."""

    address: int
    physical: int
    data: memoryview
    memory_size: int
    writable: bool
    executable: bool


@record(frozen=True)
class Executable:
    """Entry point and segments of a program, and the file they came from."""

    entry: int
    segments: tuple[Segment, ...]
    image: bytes

    @property
    def pages(self) -> int:
        """How many pages of memory the segments take."""
        return sum(len(pages_of(segment)) for segment in self.segments)


def parse_elf(image: bytes, *, limit: int = layout.USER_HEAP) -> Executable:
    """Read an ELF32 executable whose segments all lie below `limit`; NOT_EXECUTABLE names the fault."""
    if len(image) < HEADER.size or not image.startswith(MAGIC):
        raise refuse("not an ELF32 file")
    _, kind, machine, _, entry, offset, _, _, _, entry_size, count, *_ = HEADER.unpack_from(image)
    if kind != ET_EXEC or machine != EM_386:
        raise refuse("not an i386 executable")
    if entry_size != PROGRAM_HEADER.size or offset + count * entry_size > len(image):
        raise refuse("program headers lie outside the file")
    if count > PROGRAM_HEADERS:
        raise refuse(f"{count} program headers")
    headers = [PROGRAM_HEADER.unpack_from(image, offset + index * entry_size) for index in range(count)]
    segments = tuple(read_segment(image, header, limit) for header in headers if header[0] == PT_LOAD and header[5])
    check_pages(segments)
    if not any(segment.executable and 0 <= entry - segment.address < segment.memory_size for segment in segments):
        raise refuse("entry point lies in no executable segment")
    return Executable(entry, segments, image)


def read_segment(image: bytes, header: tuple[int, ...], limit: int) -> Segment:
    """Check one PT_LOAD header against the file and the address space."""
    _, offset, address, physical, file_size, memory_size, flags, _ = header
    if offset + file_size > len(image) or file_size > memory_size:
        raise refuse("a segment lies outside the file")
    if memory_size > PROGRAM_MEMORY or address < layout.PAGE_SIZE or address + memory_size > limit:
        raise refuse(f"a segment of {memory_size} bytes at {address:#x} does not fit")
    data = memoryview(image)[offset : offset + file_size]
    return Segment(address, physical, data, memory_size, bool(flags & PF_W), bool(flags & PF_X))


def pages_of(segment: Segment) -> range:
    """Return the addresses of the pages that a segment touches."""
    first = segment.address & -layout.PAGE_SIZE
    return range(first, segment.address + segment.memory_size, layout.PAGE_SIZE)


def check_pages(segments: tuple[Segment, ...]) -> None:
    """NOT_EXECUTABLE if two segments share a page, or all together take too much memory."""
    last = 0
    for pages in sorted(map(pages_of, segments), key=lambda run: run.start):
        if pages.start < last:
            raise refuse("segments share a page")
        last = pages.stop + -pages.stop % layout.PAGE_SIZE
    if sum(segment.memory_size for segment in segments) > PROGRAM_MEMORY:
        raise refuse(f"segments of more than {PROGRAM_MEMORY} bytes")


def refuse(text: str) -> CallerError:
    """Return the error for a file that cannot be run."""
    return CallerError(ErrorCode.NOT_EXECUTABLE, text)
