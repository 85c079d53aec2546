"""Lines to statements: labels, constants, directives, instructions, each in its section."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from callgate.asm.assembler.encode import SEGMENT_PREFIXES
from callgate.asm.assembler.errors import AsmError, ErrorList, Place, near_miss
from callgate.asm.assembler.macros import split_arguments
from callgate.asm.assembler.mnemonics import MNEMONICS, REPEATS
from callgate.asm.assembler.names import Constant, Label, Names
from callgate.asm.assembler.preprocess import ASSIGNMENT, DIRECTIVE, SETTING
from callgate.asm.assembler.registers import REGISTERS
from callgate.asm.assembler.source import Line, unquote

LABEL = re.compile(r"\s*(?P<name>\.?[A-Za-z_]\w*)\s*:(?!:)", re.ASCII)
MNEMONIC = re.compile(r"\s*(?P<word>[A-Za-z]\w*)(?![\w.])\s*(?P<rest>.*)$", re.DOTALL | re.ASCII)
SECTION = re.compile(r"(?P<name>\.?[A-Za-z_][\w.]*)\s*(?:,\s*\"(?P<flags>[arwxz]+)\"\s*)?$", re.ASCII)
PREFIXES = frozenset(("lock", *REPEATS, *SEGMENT_PREFIXES))
DATA_SIZES = {
    ".byte": 1, ".db": 1, ".word": 2, ".short": 2, ".dw": 2, ".long": 4, ".dword": 4, ".int": 4, ".dd": 4,
    ".quad": 8, ".dq": 8,
}  # fmt: skip
TEXTS = (".ascii", ".asciz", ".string")
SPACES = (".space", ".zero", ".skip", ".fill", ".align", ".balign", ".p2align", ".org", ".incbin")
PROBES = (".event", ".ledger")
# Permissions of a section whose directive names none, by the beginning of its name; z = zeros, not in the file.
FLAGS = {".text": "rx", ".rodata": "r", ".data": "rw", ".bss": "rwz"}
DIRECTIVES = (
    *DATA_SIZES, *TEXTS, *SPACES, *PROBES, *FLAGS, ".section", ".assert", ".error", ".equ", ".set", ".global",
    ".globl", ".include", ".macro", ".endm", ".rept", ".irp", ".endr", ".if", ".ifdef", ".ifndef", ".elif",
    ".else", ".endif", ".struct", ".field", ".ends",
)  # fmt: skip
# What other assemblers call things.
FOREIGN = {
    "db": ".byte", "dw": ".word", "dd": ".long", "dq": ".quad", "resb": ".space", "times": ".rept or .fill",
    "section": ".section", "segment": ".section", "global": ".global", "extern": "one unit with .include",
    "align": ".align", "org": ".org", "include": ".include", "incbin": ".incbin", "struc": ".struct",
    "bits": "nothing: code is always 32-bit", "use32": "nothing: code is always 32-bit",
}  # fmt: skip


@dataclass(slots=True)
class Statement:
    """One thing that occupies space in a section, or marks a place in it."""

    kind: str
    line: Line
    scope: str
    word: str = ""
    rest: str = ""
    column: int = 1
    prefix: str = ""
    address: int = 0
    data: bytes = b""
    size: int = 0
    grown: bool = False  # a branch that has become near
    fixed: bool = False  # its bytes hang on nothing that may still move


@dataclass(slots=True)
class Chunk:
    """A section being laid out."""

    name: str
    flags: str
    statements: list[Statement] = field(default_factory=list)
    address: int = 0
    alignment: int = 1

    @property
    def writable(self) -> bool:
        """Whether it can be written to."""
        return "w" in self.flags

    @property
    def executable(self) -> bool:
        """Whether instructions may stand in it."""
        return "x" in self.flags

    @property
    def zero(self) -> bool:
        """Whether it holds zeros only, and nothing in the file."""
        return "z" in self.flags


class Reader:
    """Takes in the lines of a unit."""

    def __init__(self, names: Names, errors: ErrorList, macros: Collection[str] = ()) -> None:
        self.names = names
        self.errors = errors
        self.macros = macros
        self.chunks: dict[str, Chunk] = {}
        self.exported: dict[str, Statement] = {}
        self.scope = ""
        self.section = ".text"

    def read(self, lines: list[Line]) -> None:
        """Turn the lines into statements; errors are noted."""
        for line in lines:
            try:
                self._line(line)
            except AsmError as error:
                self.errors.add(error)

    def chunk(self, name: str, flags: str = "") -> Chunk:
        """Return a section, new or begun earlier."""
        known = self.chunks.get(name)
        if known is None:
            default = next((letters for stem, letters in FLAGS.items() if name.startswith(stem)), "rx")
            known = self.chunks[name] = Chunk(name, flags or default)
        return known

    def _put(self, statement: Statement) -> None:
        self.chunk(self.section).statements.append(statement)

    def _line(self, line: Line) -> None:
        text = line.text
        position = 0
        while match := LABEL.match(text, position):
            if match["name"].lower() in SEGMENT_PREFIXES and text[match.end() :].lstrip()[:1] == "[":
                break
            self._label(match["name"], line, match.start("name") + 1)
            position = match.end()
        rest = text[position:]
        if not rest.strip():
            return
        if assignment := ASSIGNMENT.match(rest):
            self._assign(assignment, line, position)
        elif directive := DIRECTIVE.match(rest):
            column = position + directive.start("rest") + 1
            self._directive(directive["word"], directive["rest"].strip(), line, column, rest)
        else:
            self._instruction(rest, position, line)

    def _label(self, name: str, line: Line, column: int) -> None:
        place = line.place.at(column)
        if name.lower() in REGISTERS:
            raise AsmError(place, f"{name} is a register, not a label", "choose another name")
        if name.startswith("."):
            if not self.scope:
                raise AsmError(
                    place, f"local label {name} has no global label before it", "define one above, or drop the dot"
                )
            name = self.scope + name
        else:
            self.scope = name
        self.names.add_label(Label(name, self.section, place))
        self._put(Statement("label", line, self.scope, name))

    def _assign(self, match: re.Match[str], line: Line, position: int) -> None:
        name = match["name"]
        place = line.place.at(position + match.start("name") + 1)
        if name.lower() in REGISTERS:
            raise AsmError(place, f"{name} is a register", "choose another name")
        value_place = line.place.at(position + match.start("value") + 1)
        self.names.add_constant(Constant(name, match["value"], value_place, self.scope))
        self._put(Statement("here", line, self.scope, name))

    def _directive(self, written: str, rest: str, line: Line, column: int, whole: str) -> None:
        word = written.lower()
        place = line.place.at(line.text.find(written) + 1)
        if word in FLAGS:
            if rest:
                raise AsmError(line.place.at(column), f"{word} takes no argument", f"write {word} alone")
            self.chunk(word)
            self.section = word
        elif word == ".section":
            self._section(rest, line, column)
        elif word in (".equ", ".set"):
            setting = SETTING.match(whole)
            if setting is None:
                raise AsmError(place, f"{word} wants a name and a value", f"write {word} name, value")
            self._assign(setting, line, len(line.text) - len(whole))
        elif word in (".global", ".globl"):
            if not rest:
                raise AsmError(place, f"{word} wants a name", f"write {word} name, name")
            for name in split_arguments(rest):
                self.exported.setdefault(name, Statement("export", line, self.scope, name, "", column))
        elif word == ".error":
            raise AsmError(place, unquote(rest, line.place.at(column), "a text"))
        else:
            self._put(Statement(self._kind(word, written, line), line, self.scope, word, rest, column))

    def _kind(self, word: str, written: str, line: Line) -> str:
        for kind, words in (("data", DATA_SIZES), ("text", TEXTS), ("space", SPACES), ("mark", PROBES)):
            if word in words:
                return kind
        if word == ".assert":
            return "check"
        place = line.place.at(line.text.find(written) + 1)
        if word in DIRECTIVES:
            raise AsmError(place, f"{word} stands on a line of its own", "put the label on the line before")
        hint = near_miss(word, DIRECTIVES) or "docs/assembler.md lists them"
        raise AsmError(place, f"there is no directive {written}", hint)

    def _section(self, rest: str, line: Line, column: int) -> None:
        match = SECTION.match(rest)
        if match is None:
            hint = 'write .section .name, or .section .name, "rwx" with flags of r, w, x, and z for zeros'
            raise AsmError(line.place.at(column), "the section's name or flags are not understood", hint)
        flags = "r" + "".join(letter for letter in "wxz" if letter in match["flags"]) if match["flags"] else ""
        chunk = self.chunk(match["name"], flags)
        if flags and flags != chunk.flags:
            raise AsmError(line.place.at(column), f"section {chunk.name} has the flags {chunk.flags} already")
        self.section = chunk.name

    def _instruction(self, rest: str, position: int, line: Line) -> None:
        prefixes: list[str] = []
        match = MNEMONIC.match(rest)
        while match is not None and match["word"].lower() in PREFIXES and match["rest"][:1].isalpha():
            prefixes.append(match["word"].lower())
            position += match.start("rest")
            match = MNEMONIC.match(match["rest"])
        if match is None:
            place = line.place.at(position + 1 + len(line.text[position:]) - len(line.text[position:].lstrip()))
            raise self._no_statement(line, place)
        word = match["word"].lower()
        place = line.place.at(position + match.start("word") + 1)
        if word not in MNEMONICS:
            raise self._unknown(match["word"], match["rest"], replace(line, place=place))
        if not self.chunk(self.section).executable:
            raise AsmError(place, f"instructions cannot stand in {self.section}", "switch to .text before it")
        column = position + match.start("rest") + 1
        statement = Statement("code", line, self.scope, word, match["rest"].strip(), column, " ".join(prefixes))
        self._put(statement)

    def _no_statement(self, line: Line, place: Place) -> AsmError:
        text = line.text[place.column - 1 :].strip()
        if text.startswith("\\"):
            return AsmError(place, f"{text.split()[0]} is no parameter of a macro here", "name it behind .macro")
        return AsmError(place, f"{text[:1]!r} begins no statement", "write a label, a directive or an instruction")

    def _unknown(self, word: str, rest: str, line: Line) -> AsmError:
        if word.lower()[:-1] in MNEMONICS and "%" in rest:
            hint = f"this is the syntax of AT&T; write {word[:-1]} destination, source, without % and $"
            return AsmError(line.place, f"there is no instruction {word}", hint)
        foreign = FOREIGN.get(word.lower())
        if foreign is not None:
            return AsmError(line.place, f"{word} is of another assembler", f"write {foreign}")
        if word in self.macros:
            return AsmError(line.place, f"macro {word} is defined further down", "move its definition above")
        hint = near_miss(word.lower(), MNEMONICS) or near_miss(word, self.macros)
        if not hint and (not rest.strip() or rest.split(maxsplit=1)[0].lower() in MNEMONICS):
            hint = f"a label is written {word}:"
        hint = hint or "names are those of the Intel manual, up to SSE4.2"
        return AsmError(line.place, f"there is no instruction {word}", hint)
