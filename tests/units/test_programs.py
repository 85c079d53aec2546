"""Programs' files as the kernel reads them: headers, segments and symbols that may be anything, and server packages."""

import struct
import sys
from pathlib import Path

import pytest
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import PROGRAM_MEMORY, SYMBOLS
from callgate.kernel.common.remembered import fingerprint
from callgate.kernel.core.symbols import SECTIONS, symbol_at, table_of
from callgate.kernel.programs.executable import parse_elf
from callgate.kernel.servers.packages import Entry, _loaded
from callgate.server.hosted import HostedServer
from plain_guest import refusal

HEADER, PROGRAM, SECTION, SYMBOL = (struct.Struct("<" + form) for form in ("16sHHIIIIIHHHHHH", "8I", "10I", "IIIBBH"))
PAGE, BASE = 4096, 0x40_0000
FUNCTION, SECTION_SYMBOL = 2, 3
NAMES = b"\0first\0second\0section\0"


def elf(*, file: dict[str, int] | None = None, segment: dict[str, int] | None = None) -> bytes:
    """Return an executable of one page of code (System V gABI, chapters 4 and 5), with fields changed."""
    head = {"kind": 2, "machine": 3, "at": 52, "size": 32, "count": 1} | (file or {})
    load = {"offset": PAGE, "address": BASE, "in_file": PAGE, "in_memory": PAGE} | (segment or {})
    begin = HEADER.pack(
        b"\x7fELF\1\1\1", head["kind"], head["machine"], 1, load["address"], head["at"], 0, 0, 52, head["size"],
        head["count"], 0, 0, 0,
    )  # fmt: skip
    header = PROGRAM.pack(1, load["offset"], load["address"], 0, load["in_file"], load["in_memory"], 5, PAGE)
    return (begin + header).ljust(2 * PAGE, b"\0")


UNSOUND = {
    "another kind of file": {"file": {"kind": 3}},
    "for another machine": {"file": {"machine": 62}},
    "headers of another size": {"file": {"size": 40}},
    "headers after its end": {"file": {"at": 2 * PAGE - 8}},
    "a segment after its end": {"segment": {"offset": PAGE + 1}},
    "a segment that is longer in the file": {"segment": {"in_memory": PAGE - 1}},
    "a segment of more than a program may have": {"segment": {"in_memory": PROGRAM_MEMORY + 1}},
    "a segment in page 0": {"segment": {"address": PAGE - 1}},
    "a segment that passes the end": {"segment": {"address": 0xFFFF_F000, "in_memory": 2 * PAGE}},
}


def test_a_sound_program_has_its_segment() -> None:
    (segment,) = parse_elf(elf()).segments
    assert (segment.address, segment.memory_size, segment.executable, segment.writable) == (BASE, PAGE, True, False)


@pytest.mark.parametrize("fault", UNSOUND)
def test_a_program_with_one_fault_is_refused(fault: str) -> None:
    with refusal(ErrorCode.NOT_EXECUTABLE):
        parse_elf(elf(**UNSOUND[fault]))


@pytest.mark.parametrize("change", [slice(0, 40), slice(1, None)], ids=["too short", "another magic number"])
def test_a_file_without_a_whole_elf_header_is_refused(change: slice) -> None:
    with refusal(ErrorCode.NOT_EXECUTABLE):
        parse_elf(elf()[change])


def with_symbols(**changed: int) -> bytes:
    """Return a file with a code section at BASE, symbols and their names, with fields changed."""
    symbols = [(1, BASE, FUNCTION, 1), (7, BASE + 16, FUNCTION, 1), (14, BASE + 32, SECTION_SYMBOL, 1)]
    symbols += [(1, BASE + 20, FUNCTION, 2), (1, 4, FUNCTION, 2)]  # of a section that is not loaded
    table = b"".join(SYMBOL.pack(name, value, 0, kind, 0, where) for name, value, kind, where in symbols)
    names_at = HEADER.size + len(table)
    size = changed.get("symbols", len(table))
    rows = [
        (0,) * 10,
        (0, 1, 4, BASE, 0, 64, 0, 0, 4, 0),
        (0, 2, 0, 0, HEADER.size, size, changed.get("link", 3), 0, 4, 16),
        (0, changed.get("names", 3), 0, 0, changed.get("names_at", names_at), len(NAMES), 0, 0, 1, 0),
    ]
    if changed.get("no_table"):
        rows[2] = (0, 1, *rows[2][2:])
    sections = b"".join(SECTION.pack(*row).ljust(changed.get("entry", 0), b"\0") for row in rows)
    head = HEADER.pack(
        b"\x7fELF\1\1\1", 2, 3, 1, BASE, 0, names_at + len(NAMES), 0, 52, 32, 0, changed.get("entry", 40),
        changed.get("count", len(rows)), 0,
    )  # fmt: skip
    return (head + table + NAMES + sections).ljust(changed.get("length", 0), b"\0")


@pytest.mark.parametrize(
    ("address", "name"),
    [(0, "first"), (15, "first+0xf"), (16, "second"), (40, "second+0x18"), (63, "second+0x2f"), (64, ""), (-1, "")],
)
def test_an_address_is_named_by_the_last_function_before_it_in_its_own_section(address: int, name: str) -> None:
    assert symbol_at(with_symbols(), BASE + address) == name
    assert symbol_at(with_symbols(), address) == "", "no section is loaded there"


DAMAGED = {
    "section headers of another size": {"entry": 44},
    "no sections": {"count": 0},
    "too many sections": {"count": SECTIONS + 1, "length": 1 << 16},
    "sections after the end": {"count": 5},
    "no symbols": {"no_table": 1},
    "names in a section that there is not": {"link": 4},
    "names in a section of another kind": {"names": 1},
    "names after the end": {"names_at": 1 << 20},
    "half a symbol": {"symbols": 40},
    "a symbol table of no bytes": {"symbols": 0},
    "symbols after the end": {"symbols": 16 * 1024, "length": HEADER.size + 16 * 100},
    "more symbols than are kept": {"symbols": 16 * (SYMBOLS + 1), "length": 1 << 20},
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_file_with_a_damaged_symbol_table_has_no_names(damage: str) -> None:
    assert table_of(with_symbols(**DAMAGED[damage])) is None


def test_what_an_entry_point_names_is_used_only_if_it_is_a_class_of_servers() -> None:
    assert _loaded(Entry("good", "callgate.server.hosted:HostedServer", "")) is HostedServer
    for value in ("pathlib:Path", "os:sep"):  # another class, and no class
        reason = "it is neither a HostedServer nor a Recogniser"
        assert _loaded(Entry("bad", value, "")) == f"server bad ({value}) is not used: {reason}"


def test_a_package_that_is_not_installed_or_has_no_code_of_its_own_has_no_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_a_folder").mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert fingerprint("only_a_folder", []) is None
    assert fingerprint("there_is_no_such_package", []) is None
