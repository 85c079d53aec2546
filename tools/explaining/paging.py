"""Entries of PAE's tables, and error codes of exceptions (Intel SDM vol. 3, 4.4, 4.7 and 6.13)."""

from __future__ import annotations

from typing import Final

from callgate.kernel.abi.memory import LARGE_PAGE_SIZE, PAGE_SIZE, PTE_LARGE, PTE_PRESENT
from callgate.kernel.common.near_miss import did_you_mean
from callgate.kernel.machine.cpu.exceptions import NAMES
from callgate.kernel.machine.cpu.paging import ADDRESS, MAXPHYADDR, NX, RESERVED_LARGE
from callgate.tools.explaining.answers import Answer, Bit, Part, Unknown, of_bits

COMMON: Final = [
    Bit(0, 1, "P", "present"),
    Bit(1, 1, "W", "may be written to"),
    Bit(2, 1, "U", "ring 3 may touch it"),
    Bit(3, 1, "PWT", "write-through"),
    Bit(4, 1, "PCD", "not cached: device registers"),
    Bit(5, 1, "A", "accessed since the bit was cleared"),
]
FRAME: Final = Bit(12, MAXPHYADDR - 12, "frame", "physical address / 4096")
NO_EXECUTE: Final = Bit(63, 1, "NX", "may not be executed")
AVAILABLE: Final = Bit(9, 3, "available", "the system's own")
PTE: Final = [
    *COMMON,
    Bit(6, 1, "D", "written to since the bit was cleared"),
    Bit(7, 1, "PAT", "memory type, with PCD and PWT"),
    Bit(8, 1, "G", "global: a load of CR3 leaves it in the TLB, if CR4.PGE is set"),
    *(AVAILABLE, FRAME, NO_EXECUTE),
]
PDE_TABLE: Final = [
    *COMMON,
    Bit(6, 1, "ignored", "the CPU sets it for a page of 2 MiB only"),
    Bit(7, 1, "PS", "a page of 2 MiB"),
    Bit(8, 4, "available", "the system's own"),
    *(FRAME, NO_EXECUTE),
]
PDE_LARGE: Final = [
    *COMMON,
    Bit(6, 1, "D", "written to since the bit was cleared"),
    Bit(7, 1, "PS", "a page of 2 MiB"),
    Bit(8, 1, "G", "global: a load of CR3 leaves it in the TLB, if CR4.PGE is set"),
    AVAILABLE,
    Bit(12, 1, "PAT", "memory type, with PCD and PWT"),
    Bit(21, MAXPHYADDR - 21, "frame", "physical address / 2 MiB"),
    NO_EXECUTE,
]
PDPTE: Final = [
    Bit(0, 1, "P", "present"),
    Bit(3, 1, "PWT", "write-through"),
    Bit(4, 1, "PCD", "not cached"),
    AVAILABLE,
    FRAME,
]
PAGE_FAULT: Final = [
    Bit(0, 1, "P", "the page is present, and the access was not allowed; clear: it is not present"),
    Bit(1, 1, "W", "a write; clear: a read or fetch"),
    Bit(2, 1, "U", "by ring 3; clear: by the kernel"),
    Bit(3, 1, "RSVD", "an entry has a reserved bit set"),
    Bit(4, 1, "I", "an instruction fetch"),
    Bit(5, 1, "PK", "a protection key forbids it"),
]
SELECTOR_ERROR: Final = [
    Bit(0, 1, "EXT", "by an event outside the program: an interrupt, or an exception while another was delivered"),
    Bit(1, 1, "IDT", "the index is that of a gate in the IDT"),
    Bit(2, 1, "TI", "the index is one of the LDT; clear: of the GDT, unless IDT is set"),
    Bit(3, 13, "index", "of the descriptor"),
]
SELECTORS_IN: Final = ("#TS", "#NP", "#SS", "#GP")  # exceptions whose error code names a selector
ZERO_IN: Final = ("#DF", "#AC")


def pte(value: int | None) -> Answer:
    """Explain the entry of a page table."""
    return _entry("pte", value, PTE, PAGE_SIZE)


def pde(value: int | None) -> Answer:
    """Explain the entry of a page directory: a page table, or a page of 2 MiB."""
    large = value is not None and bool(value & PTE_LARGE)
    answer = _entry("pde", value, PDE_LARGE if large else PDE_TABLE, LARGE_PAGE_SIZE if large else 0)
    if large and value is not None and value & RESERVED_LARGE and value & PTE_PRESENT:
        answer.notes.append("bits 20:13 of a 2 MiB page are reserved: an access is #PF with RSVD")
    return answer


def pdpte(value: int | None) -> Answer:
    """Explain one of the four entries that CR3 points to."""
    return _entry("pdpte", value, PDPTE, 0)


def _entry(kind: str, value: int | None, bits: list[Bit], page: int) -> Answer:
    answer = of_bits(kind, value, 64, bits)
    if value is None:
        return answer
    if not value & PTE_PRESENT:
        answer.summary = "not present: all other bits are the system's own"
        answer.notes = []
        return answer
    target = value & ADDRESS & -page if page else value & ADDRESS
    what = f"a page of {page >> 10} KiB" if page else "a table"
    rights = ["read", *(["write"] if value & 2 else []), *(["execute"] if not value & NX else [])]
    who = "ring 3 and kernel" if value & 4 else "kernel only"
    answer.summary = f"{what} at physical {target:#x}" + (f"; {', '.join(rights)}; {who}" if kind != "pdpte" else "")
    return answer


def error_code(name: str, value: int | None) -> Answer:
    """Explain the error code of an exception, named `pf`, `#PF` or by its vector; Unknown if it has none."""
    mnemonic = exception(name)
    if mnemonic == "#PF":
        answer = of_bits("error code", value, 32, PAGE_FAULT)
        if value is not None:
            answer.summary = page_fault(value)
    elif mnemonic in SELECTORS_IN:
        answer = of_bits("error code", value, 32, SELECTOR_ERROR)
        if value is not None:
            table = "IDT" if value & 2 else "LDT" if value & 4 else "GDT"
            place = f"entry {value >> 3 & 0x1FFF:#x} of the {table}"
            answer.summary = place if value >> 1 else "no selector is to blame"
    elif mnemonic in ZERO_IN:
        answer = Answer("error code", "" if value is None else f"{value:#x}", "always 0")
    else:
        raise Unknown(f"{mnemonic} pushes no error code; #DF #TS #NP #SS #GP #PF #AC do")
    answer.kind = f"error code of {mnemonic}"
    return answer


def page_fault(code: int) -> str:
    """Return in one sentence what a page fault's error code says."""
    access = "instruction fetch" if code & 16 else "write" if code & 2 else "read"
    ring = "ring 3" if code & 4 else "the kernel"
    why = (
        "a reserved bit is set in an entry"
        if code & 8
        else "the page does not allow it"
        if code & 1
        else "the page is not present"
    )
    return f"{access} by {ring}: {why}"


def exception(name: str) -> str:
    """Return the mnemonic of an exception; Unknown with the likeliest one."""
    known = {mnemonic.removeprefix("#").lower(): mnemonic for mnemonic in NAMES.values()}
    word = name.removeprefix("#").lower()
    if word.isdigit() and int(word) in NAMES:
        return NAMES[int(word)]
    if word not in known:
        hint = did_you_mean(word, known) or f"there are {' '.join(sorted(known))}"
        raise Unknown(f"no exception is called {name!r}; {hint}")
    return known[word]


def vector(mnemonic: str) -> Answer:
    """Explain an exception by its mnemonic."""
    number = next(number for number, name in NAMES.items() if name == mnemonic)
    coded = mnemonic in (*SELECTORS_IN, *ZERO_IN, "#PF")
    parts = [Part("", "vector", str(number), ""), Part("", "error code", "yes" if coded else "no", "")]
    return Answer(
        "exception", mnemonic, "", parts, [f"callgate explain error-code {mnemonic[1:].lower()} VALUE"] if coded else []
    )
