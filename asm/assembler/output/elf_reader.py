"""Reads back the ELF files that we write, with events, marks and lines (the `.note.callgate` section)."""

import json
import struct
import zlib

from callgate.asm.assembler.output.elf import (
    HEADER,
    IDENT,
    NOTE_NAME,
    NOTE_OWNER,
    NOTE_TYPE,
    SECTION_HEADER,
    SHT_NOBITS,
)
from callgate.asm.assembler.output.record import Kind, restore

NOTE_HEADER = struct.Struct("<III")
NOTE_LIMIT = 64 << 20


def read_program(kind: type[Kind], image: bytes) -> Kind:
    """Return the unit that `elf.write_elf` wrote, as a `kind`; ValueError if the image is none of ours, or damaged."""
    sections = section_contents(image)
    note = sections.get(NOTE_NAME)
    if note is None:
        raise ValueError("the ELF file has no .note.callgate section; it was not written by this assembler")
    try:
        return restore(kind, json.loads(note_text(note)), sections)
    except (KeyError, TypeError, ValueError, IndexError, zlib.error, struct.error) as error:
        raise ValueError(f"the .note.callgate section is damaged: {error}") from None


def note_text(note: bytes) -> bytes:
    """Return the description of a note (gABI, Note Section)."""
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
    if len(image) < HEADER.size or image[: len(IDENT)] != IDENT:
        raise ValueError("this is not an ELF32 little-endian file")
    fields = HEADER.unpack_from(image)
    offset, size, count, names_index = fields[6], fields[11], fields[12], fields[13]
    if size != SECTION_HEADER.size or offset + size * count > len(image) or names_index >= count:
        raise ValueError("the section headers lie outside the ELF file")
    headers = [SECTION_HEADER.unpack_from(image, offset + size * index) for index in range(count)]
    names = piece(image, headers[names_index])
    result = {}
    for header in headers:
        end = names.find(b"\0", header[0])
        result[names[header[0] : end].decode("utf-8", "replace")] = piece(image, header)
    return result


def piece(image: bytes, header: tuple[int, ...]) -> bytes:
    """Return the bytes of a section header; ValueError if they are not all there."""
    kind, offset, size = header[1], header[4], header[5]
    if kind == SHT_NOBITS:
        return b""
    if offset + size > len(image):
        raise ValueError("a section lies outside the ELF file")
    return image[offset : offset + size]
