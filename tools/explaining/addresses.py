"""Linear addresses: their region, and what kernel and programs have there: section, symbol, source line."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Final

from callgate.asm import kernel as kernel_sources
from callgate.asm.assembler import Program
from callgate.asm.user import PROGRAMS
from callgate.kernel.abi import memory
from callgate.kernel.common.near_miss import did_you_mean
from callgate.kernel.programs.images import kernel_image, program_image
from callgate.tools.explaining.answers import Answer, Part, Unknown

ROOT: Final = Path(kernel_sources.__file__).parents[2]
REGIONS: Final = (  # first address, what lies from there on
    (0, "not mapped: null pointers fault"),
    (memory.USER_PROGRAM, "ring 3: the program"),
    (memory.USER_HEAP, "ring 3: memory given by ALLOCATE"),
    (memory.USER_FILES, "ring 3: windows on files, directories, pages of file objects"),
    (memory.USER_FILES_END, "not mapped"),
    (memory.USER_MESSAGES, "ring 3 of servers: the 32 message pages"),
    (memory.USER_MESSAGES + 32 * memory.PAGE_SIZE, "not mapped"),
    (memory.USER_METADATA, "ring 3 of servers: disk blocks that they have locked"),
    (memory.USER_METADATA_END, "not mapped but for stacks"),
    (memory.USER_ARGUMENTS, "ring 3: command line and current directory, read-only"),
    (memory.USER_ARGUMENTS + memory.PAGE_SIZE, "not mapped but for stacks"),
    (memory.USER_STACK_TOP - memory.USER_STACK_SIZE, "ring 3: the first thread's stack"),
    (memory.USER_STACK_TOP, "not mapped: above the stack"),
    (memory.KERNEL_BASE, "ring 0: the direct map of low RAM"),
    (memory.KERNEL_BASE + memory.DIRECT_MAP_LIMIT, "ring 0: device registers"),
    (memory.KERNEL_STACKS, "ring 0: kernel stacks of threads, each above an unmapped page"),
    (memory.KERNEL_WINDOW, "ring 0: the window for high pages"),
)


def explain(address: int, program: str | None = None) -> Answer:
    """Explain a linear address; `program` is the one program of ring 3 to look in, else ours are all looked in.

    Unknown if there is no such program.
    """
    region = REGIONS[bisect_right([first for first, _ in REGIONS], address) - 1][1]
    answer = Answer("address", f"{address:#010x}", region)
    if program is not None:
        add(answer, program, load(program), address)
        if not answer.parts:
            answer.notes.append(f"nothing of {program} lies here")
    elif memory.KERNEL_BASE <= address < memory.KERNEL_BASE + memory.DIRECT_MAP_LIMIT:
        answer.notes.append(f"physical {address - memory.KERNEL_BASE:#x}, if there is that much low RAM")
        add(answer, "kernel", kernel_image(), address)
    elif memory.USER_MESSAGES <= address < memory.USER_MESSAGES + 32 * memory.PAGE_SIZE:
        offset = address - memory.USER_MESSAGES
        answer.notes.append(f"slot {offset >> memory.PAGE_SHIFT}, offset {offset % memory.PAGE_SIZE:#x} in its page")
    elif memory.USER_PROGRAM <= address < memory.USER_HEAP:
        for name in sorted(PROGRAMS):
            add(answer, name, program_image(name), address)
    return answer


def load(program: str) -> Program:
    """Return a program of ours by its name, or one from the ELF file that `callgate asm` has written; Unknown."""
    if program in PROGRAMS:
        return program_image(program)
    try:
        return Program.from_elf(Path(program).read_bytes())
    except FileNotFoundError:
        hint = did_you_mean(program, PROGRAMS) or f"there are {', '.join(sorted(PROGRAMS))}"
        raise Unknown(f"{program}: neither a file nor a program that comes with callgate; {hint}") from None
    except OSError as error:
        raise Unknown(f"{program}: {error.strerror}") from None
    except ValueError as error:
        raise Unknown(f"{program}: {error}") from None


def add(answer: Answer, name: str, image: Program, address: int) -> None:
    """Add what an image has at an address, if it has something there."""
    section = image.section_at(address)
    if section is not None:
        answer.parts.append(Part(name, section.name, image.symbol_at(address), source_place(image, address)))


def source_place(image: Program, address: int) -> str:
    """Return file, line and text of the instruction that an address belongs to; "" if it is none."""
    line = image.line_at(address)
    if line is None:
        return ""
    path = Path(line.file)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"{shown}:{line.line}: {' '.join(line.text.split())}"
