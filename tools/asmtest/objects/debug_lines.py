"""Source lines of object files, from their DWARF sections (DWARF 5, section 6.2), read by pyelftools."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from callgate.asm.assembler import SourceLine
from callgate.tools.asmtest.objects.relocatable import ObjectFile

DEBUG: Final = ".debug_"
FILES_FROM_ZERO: Final = 5  # versions of the line table from which on files are numbered from 0


def lines_of(item: ObjectFile) -> list[SourceLine]:
    """Return the lines of a placed and relocated file by address; none if it has no debugging sections.

    Damaged ones give no lines either: they are only a help, and the test runs without them.
    """
    image = bytearray(item.image)
    for part in item.parts:
        if part.name.startswith(DEBUG):
            image[part.offset : part.offset + len(part.data)] = part.data
    try:
        return _lines(bytes(image), item)
    except Exception:  # noqa: BLE001 - any exception of a reader of damaged tables
        return []


def _lines(image: bytes, item: ObjectFile) -> list[SourceLine]:
    from elftools.elf.elffile import ELFFile

    elf = ELFFile(BytesIO(image))
    if not elf.has_dwarf_info():
        return []
    info = elf.get_dwarf_info(relocate_dwarf_sections=False)
    ranges = [range(part.address, part.address + part.size) for part in item.parts if part.executable and part.loaded]
    found: list[SourceLine] = []
    for unit in info.iter_CUs():
        program = info.line_program_for_CU(unit)
        if program is None:
            continue
        folder = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
        files = _Files(program, _text(folder.value) if folder is not None else "", item.path.parent)
        found.extend(_sequence_lines(program, files, ranges))
    return found


def _sequence_lines(program: Any, files: _Files, ranges: list[range]) -> list[SourceLine]:
    found: list[SourceLine] = []
    before: Any = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if before is not None and state.address > before.address and any(before.address in run for run in ranges):
            name, path = files.name(before.file)
            text = text_of(path, before.line)
            found.append(SourceLine(before.address, state.address - before.address, name, before.line, text))
        if before is None or state.end_sequence or state.address >= before.address:
            before = None if state.end_sequence else state
    return found


class _Files:
    """The files of one line table."""

    def __init__(self, program: Any, folder: str, place: Path) -> None:
        self.program = program
        self.folder = folder
        self.place = place
        self.first = 0 if program["version"] >= FILES_FROM_ZERO else 1

    def name(self, index: int) -> tuple[str, Path]:
        """Return a file as it is shown, beside the object without folders, and its path."""
        entry = self.program["file_entry"][index - self.first]
        name, folders = _text(entry.name), self.program["include_directory"]
        number = entry.dir_index - self.first
        folder = _text(folders[number]) if 0 <= number < len(folders) else ""
        path = Path(self.folder, folder, name)
        shown = path
        if path.is_absolute() and path.is_relative_to(self.place.absolute()):
            shown = path.relative_to(self.place.absolute())
        return str(shown), path


@lru_cache(maxsize=64)
def _source(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return []


def text_of(path: Path, line: int) -> str:
    """Return a line of a source, if the file has it."""
    lines = _source(path)
    return lines[line - 1] if 0 < line <= len(lines) else ""


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
