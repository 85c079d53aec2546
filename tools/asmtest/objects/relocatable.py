"""Files of other tools: ELF32 for i386 (relocatable or executable), or plain bytes.

Sections, symbols and relocations are read by pyelftools (System V gABI chapter 4, Intel386 psABI chapter 4) and
checked here; `linking` places and joins them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

ELF_MAGIC: Final = b"\x7fELF"
ARCHIVE_MAGIC: Final = b"!<arch>\n"
SOURCES: Final = (".asm", ".inc", ".s")  # names of files that the assembler reads
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_GROUP, SHF_TLS, SHF_COMPRESSED = 1, 2, 4, 0x200, 0x400, 0x800
GRP_COMDAT: Final = 1
PT_INTERP: Final = "PT_INTERP"
PF_X, PF_W = 1, 2
R_386_GOT32X: Final = 43  # younger than the table of pyelftools
TABLES: Final = ("SHT_REL", "SHT_RELA", "SHT_GROUP", "SHT_SYMTAB", "SHT_STRTAB", "SHT_NOTE")
NOT_LOADED: Final = ".eh_frame"  # tables of unwinders, which routines do not read


class ObjectError(ValueError):
    """A file that cannot be tested, or a name that files lack; the message names both and the remedy."""


@dataclass(slots=True, eq=False)
class Part:
    """A section of an object file, or a segment of an executable.

    `fixed`: it is linked at `address` already.  `offset` is where its bytes lie in the file.
    """

    name: str
    data: bytes
    size: int
    align: int = 1
    writable: bool = False
    executable: bool = False
    loaded: bool = True  # it takes memory; a debugging section does not
    fixed: bool = False
    address: int = 0
    offset: int = 0
    group: str = ""  # of the COMDAT group that it belongs to
    relocations: list[Relocation] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Named:
    """A symbol: within a part, `common` bytes that need a place, an absolute value, or `undefined`."""

    name: str
    value: int
    size: int
    part: Part | None = None
    undefined: bool = False
    common: int = 0  # bytes; `value` is the alignment
    weak: bool = False
    local: bool = False
    kind: str = "STT_NOTYPE"


@dataclass(frozen=True, slots=True)
class Relocation:
    """A place in a part that depends on a symbol; `kind` as the psABI names it."""

    offset: int
    kind: str
    symbol: Named


@dataclass(slots=True)
class ObjectFile:
    """One file; `parts` and `symbols` in its order.  `image` is empty for plain bytes."""

    path: Path
    parts: list[Part]
    symbols: list[Named]
    image: bytes = b""
    entry: int = 0

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name


def is_object(path: Path, *, at: int | None = None) -> bool:
    """Whether a file is one for `read_object`, not a source: ELF, an archive, another name, or given an address."""
    if at is not None or path.suffix.lower() in (".o", ".obj", ".bin", ".elf", ".a", ".so"):
        return True
    if path.suffix.lower() in SOURCES:
        return False
    try:
        with path.open("rb") as file:
            head = file.read(len(ARCHIVE_MAGIC))
    except OSError:
        return False  # the assembler reports the errors of a source
    return head.startswith(ELF_MAGIC) or head == ARCHIVE_MAGIC


def read_object(path: Path, at: int | None = None) -> ObjectFile:
    """Return the content of a file; plain bytes lie at the linear address `at`.

    ObjectError names the kind of a file that cannot be tested; OSError if it cannot be read.
    """
    try:
        image = path.read_bytes()
    except FileNotFoundError:
        raise ObjectError(
            f"there is no {path}; build it first, for instance with gcc -m32 -g -c {path.stem}.c"
        ) from None
    if image.startswith(ELF_MAGIC):
        if at is not None:
            raise ObjectError(f"{path.name} is an ELF file, which says itself where it lies: leave `at` out")
        return _read_elf(path, image)
    if image.startswith(ARCHIVE_MAGIC):
        raise ObjectError(f"{path.name} is an archive: take out what is to be tested with ar x {path.name}")
    if path.suffix.lower() in (".o", ".obj", ".elf", ".so") and at is None:
        raise ObjectError(f"{path.name} is not an ELF file; nasm makes one with -f elf32, gcc with -m32 -c")
    if not image:
        raise ObjectError(f"{path.name} is empty")
    part = Part(path.name, image, len(image), writable=True, executable=True, fixed=at is not None, address=at or 0)
    name = re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    symbol = Named(name if not name[:1].isdigit() else f"_{name}", 0, len(image), part, kind="STT_FUNC")
    return ObjectFile(path, [part], [symbol])


def _read_elf(path: Path, image: bytes) -> ObjectFile:
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError

    try:
        return _Elf(path, image).read()
    except (ELFError, ConstructError, AssertionError, UnicodeDecodeError, KeyError, IndexError, TypeError) as error:
        raise ObjectError(f"{path.name} is damaged: {error or type(error).__name__}") from None


@cache
def relocation_names() -> dict[int, str]:
    """Return the names of the psABI's relocations by number."""
    from elftools.elf.enums import ENUM_RELOC_TYPE_i386

    known = {value: name for name, value in ENUM_RELOC_TYPE_i386.items() if isinstance(value, int)}
    return known | {R_386_GOT32X: "R_386_GOT32X"}


class _Elf:
    """One ELF file that is being read."""

    def __init__(self, path: Path, image: bytes) -> None:
        from elftools.elf.elffile import ELFFile

        self.path = path
        self.image = image
        self.elf = ELFFile(BytesIO(image))
        self.parts: dict[int, Part] = {}  # by section number
        self.symbols: list[Named] = []

    def read(self) -> ObjectFile:
        header = self.elf.header
        if header["e_machine"] != "EM_386" or self.elf.elfclass != 32 or not self.elf.little_endian:
            what = self.elf.get_machine_arch()
            raise ObjectError(f"{self.path.name} holds {what} code of {self.elf.elfclass} bits: compile with -m32")
        self._sections()
        if header["e_type"] == "ET_REL":
            self._groups()
            self._symbols(relocatable=True)
            self._relocations()
            parts = list(self.parts.values())
        elif header["e_type"] == "ET_EXEC":
            parts = self._segments()
            self._symbols(relocatable=False)
        else:
            raise ObjectError(
                f"{self.path.name} is of type {header['e_type']}, which a dynamic linker finishes: "
                "test the .o files, or link with -static -no-pie"
            )
        return ObjectFile(self.path, parts, self.symbols, self.image, header["e_entry"])

    def _sections(self) -> None:
        for number, section in enumerate(self.elf.iter_sections()):
            kind, flags, size = section["sh_type"], section["sh_flags"], section["sh_size"]
            if kind in TABLES or kind == "SHT_NULL":
                continue
            if flags & SHF_TLS and size:
                raise ObjectError(f"{self.path.name} has thread-local data ({section.name}), for which nothing sets gs")
            data = b"" if kind == "SHT_NOBITS" else self._bytes(section["sh_offset"], size, section.name)
            self.parts[number] = Part(
                section.name, data, size, max(section["sh_addralign"], 1), bool(flags & SHF_WRITE),
                bool(flags & SHF_EXECINSTR), bool(flags & SHF_ALLOC) and section.name != NOT_LOADED,
                address=section["sh_addr"], offset=section["sh_offset"],
            )  # fmt: skip

    def _bytes(self, offset: int, size: int, name: str) -> bytes:
        if offset + size > len(self.image):
            raise ObjectError(f"{self.path.name} is cut off: {name} ends at byte {offset + size} of {len(self.image)}")
        return self.image[offset : offset + size]

    def _groups(self) -> None:
        """Note which sections come in COMDAT groups, of which one each is kept (gABI, "Section Groups")."""
        for section in self.elf.iter_sections():
            if section["sh_type"] != "SHT_GROUP":
                continue
            data = self._bytes(section["sh_offset"], section["sh_size"], section.name)
            words = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data) - 3, 4)]
            signature = self.elf.get_section(section["sh_link"]).get_symbol(section["sh_info"]).name
            for number in words[1:] if words[:1] == [GRP_COMDAT] else ():
                if number in self.parts:
                    self.parts[number].group = signature

    def _segments(self) -> list[Part]:
        """Return the parts that an executable loads."""
        if any(segment["p_type"] == PT_INTERP for segment in self.elf.iter_segments()):
            raise ObjectError(f"{self.path.name} needs a dynamic linker: link with -static -no-pie")
        parts = []
        for number, segment in enumerate(self.elf.iter_segments()):
            if segment["p_type"] == "PT_LOAD" and segment["p_memsz"]:
                name, flags = f"segment {number}", segment["p_flags"]
                data = self._bytes(segment["p_offset"], segment["p_filesz"], name)
                parts.append(
                    Part(name, data, segment["p_memsz"], 1, bool(flags & PF_W), bool(flags & PF_X), fixed=True,
                         address=segment["p_vaddr"], offset=segment["p_offset"])
                )  # fmt: skip
        if not parts:
            raise ObjectError(f"{self.path.name} has no segment to load")
        return parts

    def _symbols(self, *, relocatable: bool) -> None:
        table = self.elf.get_section_by_name(".symtab")
        for symbol in table.iter_symbols() if table is not None else ():
            self.symbols.append(self._symbol(symbol, relocatable=relocatable))

    def _symbol(self, symbol: Any, *, relocatable: bool) -> Named:
        index, kind, bind = symbol["st_shndx"], symbol["st_info"]["type"], symbol["st_info"]["bind"]
        part = self.parts.get(index) if isinstance(index, int) else None
        named = Named(
            symbol.name, symbol["st_value"], symbol["st_size"], part if relocatable else None,
            weak=bind == "STB_WEAK", local=bind == "STB_LOCAL", kind=kind,
        )  # fmt: skip
        if index == "SHN_COMMON":
            named.common = max(symbol["st_size"], 1)
        named.undefined = index == "SHN_UNDEF"
        return named

    def _relocations(self) -> None:
        for section in self.elf.iter_sections():
            part = self.parts.get(section["sh_info"]) if section["sh_type"] in ("SHT_REL", "SHT_RELA") else None
            if part is None:
                continue
            if section["sh_type"] == "SHT_RELA":
                raise ObjectError(f"{self.path.name}: {section.name} holds addends, which i386 does not use")
            names = relocation_names()
            for item in section.iter_relocations():
                kind = names.get(item["r_info_type"], f"relocation {item['r_info_type']}")
                if item["r_info_sym"] >= len(self.symbols):
                    raise ObjectError(f"{self.path.name} is damaged: {section.name} names a symbol that does not exist")
                part.relocations.append(Relocation(item["r_offset"], kind, self.symbols[item["r_info_sym"]]))
