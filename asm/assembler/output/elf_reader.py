"""Reads back the ELF files that we write, with events, marks and lines (the `.note.callgate` section)."""

import json
import struct
import zlib
from io import BytesIO
from typing import Any

from callgate.asm.assembler.output.elf_format import NOTE_NAME, NOTE_OWNER, NOTE_TYPE
from callgate.asm.assembler.output.record import Kind, restore

NOTE_HEADER = struct.Struct("<III")
NOTE_LIMIT = 64 << 20


def read_program(kind: type[Kind], image: bytes) -> Kind:
    """Return the unit that `elf.write_elf` wrote, as a `kind`; ValueError if the image is not one, or is damaged."""
    sections = section_contents(image)
    note = sections.get(NOTE_NAME)
    if note is None:
        raise ValueError("the ELF file has no .note.callgate section; it was not written by this assembler")
    try:
        return restore(kind, json.loads(note_text(note)), sections)
    except (KeyError, TypeError, ValueError, IndexError, zlib.error, struct.error) as error:
        raise ValueError(f"the .note.callgate section is damaged: {error}") from None


def note_text(note: bytes) -> bytes:
    """Return the description of a note (gABI, Note Section).

    Read here, not by pyelftools: it takes types for GNU's whatever the owner, and a damaged name for a mistake of its
    caller.
    """
    name_size, size, kind = NOTE_HEADER.unpack_from(note)
    start = NOTE_HEADER.size + -(-name_size // 4) * 4
    owner = note[NOTE_HEADER.size : NOTE_HEADER.size + name_size]
    if owner != NOTE_OWNER or kind != NOTE_TYPE or start + size > len(note):
        raise ValueError("it is another program's note")
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(note[start : start + size], NOTE_LIMIT)
    if not unpacker.eof:
        raise ValueError("it is cut off, or too large")
    return text


def section_contents(image: bytes) -> dict[str, bytes]:
    """Return the bytes of every section by name; ValueError if the file is not sound."""
    # Imported here: a boot reads no file in this way, and the import takes longer than all else that `asm` imports.
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        file = ELFFile(BytesIO(image))
        if file.elfclass != 32 or not file.little_endian:
            raise ValueError("this is not an ELF32 little-endian file")
        return {section.name: piece(image, section) for section in file.iter_sections()}
    except ELFError as error:
        raise ValueError(f"this is not an ELF file, or a damaged one: {error}") from None


def piece(image: bytes, section: Any) -> bytes:
    """Return the bytes of a section as they lie in the file; ValueError if they are not all there.

    Not `section.data()`, which makes as many zeros as an empty section claims to have.
    """
    if section["sh_type"] == "SHT_NOBITS":
        return b""
    offset, size = section["sh_offset"], section["sh_size"]
    if offset + size > len(image):
        raise ValueError("a section lies outside the ELF file")
    return image[offset : offset + size]
