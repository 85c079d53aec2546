"""The loader's reading of ELF files, which may come from any disk, against pyelftools' reading of the same bytes."""

import random
from collections.abc import Callable
from io import BytesIO

from callgate.asm.assembler.output.elf_format import HEADER, PROGRAM_HEADER
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import PROGRAM_HEADERS, PROGRAM_MEMORY
from callgate.kernel.abi.memory import PAGE_SIZE, USER_HEAP
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.programs.executable import parse_elf
from callgate.kernel.programs.images import program_file
from elftools.common.exceptions import ELFError
from elftools.elf.constants import P_FLAGS
from elftools.elf.elffile import ELFFile

Segments = list[tuple[int, int, bytes, int, bool, bool]]
SECTION_FIELDS = (slice(32, 36), slice(46, 52))  # e_shoff; e_shentsize, e_shnum, e_shstrndx: no loader's business
ODD = (0, 1, 2, 0x7F, 0x80, 0xFF)


def damaged(image: bytes, random_: random.Random) -> bytes:
    """Return the file with some bytes of its header and program headers changed, or cut off."""
    data = bytearray(image)
    end = HEADER.size + data[44] * PROGRAM_HEADER.size
    for _ in range(random_.choice((1, 1, 2, 3))):
        at = random_.choice((random_.randrange(end), random_.randrange(16, 46), random_.randrange(HEADER.size, end)))
        data[at] = random_.choice((*ODD, data[at] ^ 1 << random_.randrange(8)))
    return bytes(data[: random_.choice((len(data),) * 9 + (random_.randrange(len(data)),))])


def ours(image: bytes) -> tuple[int, Segments] | None:
    """Return entry and segments as the loader has them, None if it refuses the file."""
    try:
        program = parse_elf(image)
    except PolicyError as error:
        if error.code is not ErrorCode.NOT_EXECUTABLE:
            raise
        return None
    return program.entry, [
        (each.address, each.physical, bytes(each.data), each.memory_size, each.writable, each.executable)
        for each in program.segments
    ]


def theirs(image: bytes) -> tuple[int, Segments] | None:
    """Return the same as pyelftools reads it, None for what no loader may run; ELFError."""
    plain = bytearray(image)
    for fields in SECTION_FIELDS:
        plain[fields] = bytes(len(plain[fields]))
    file = ELFFile(BytesIO(plain))
    head = file.header
    kind = head.e_type, head.e_machine, file.elfclass, file.little_endian, head.e_ident.EI_VERSION
    if kind != ("ET_EXEC", "EM_386", 32, True, "EV_CURRENT") or head.e_phentsize != PROGRAM_HEADER.size:
        return None
    if head.e_phnum > PROGRAM_HEADERS or head.e_phoff + head.e_phnum * head.e_phentsize > len(image):
        return None
    loads = [each for each in file.iter_segments("PT_LOAD") if each["p_memsz"]]
    pages: set[int] = set()
    for each in loads:
        start, size = each["p_vaddr"], each["p_memsz"]
        if each["p_offset"] + each["p_filesz"] > len(image) or each["p_filesz"] > size or size > PROGRAM_MEMORY:
            return None
        touched = set(range(start // PAGE_SIZE, (start + size - 1) // PAGE_SIZE + 1))
        if 0 in touched or start + size > USER_HEAP or pages & touched:
            return None
        pages |= touched
    code = [each for each in loads if each["p_flags"] & P_FLAGS.PF_X]
    if sum(each["p_memsz"] for each in loads) > PROGRAM_MEMORY:
        return None
    if not any(each["p_vaddr"] <= head.e_entry < each["p_vaddr"] + each["p_memsz"] for each in code):
        return None
    return head.e_entry, [
        (
            *(each["p_vaddr"], each["p_paddr"], image[each["p_offset"] :][: each["p_filesz"]], each["p_memsz"]),
            *(bool(each["p_flags"] & P_FLAGS.PF_W), bool(each["p_flags"] & P_FLAGS.PF_X)),
        )
        for each in loads
    ]


def test_damaged_programs_are_refused_or_have_the_segments_that_pyelftools_finds(
    some_of: Callable[[range, int], list[int]],
) -> None:
    answers = {True: 0, False: 0}
    for name in ("hello", "shell"):
        image = program_file(name)
        for number in some_of(range(3000), 24):
            mutant = damaged(image, random.Random(f"{name} {number}"))
            try:
                expected = theirs(mutant)
            except ELFError:
                expected = None
            found = ours(mutant)
            assert found == expected, (name, number)
            answers[found is not None] += 1
    assert min(answers.values()) > sum(answers.values()) / 10
