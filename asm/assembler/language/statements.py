"""Lines to statements: labels, constants, directives, instructions, each in its section."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from callgate.asm.assembler.language.errors import AsmError, ErrorList, Place
from callgate.asm.assembler.language.frame_words import FRAME_IGNORED, FRAME_WORDS
from callgate.asm.assembler.language.gnu_syntax import refuse_swallowed
from callgate.asm.assembler.language.macros import split_arguments
from callgate.asm.assembler.language.mnemonics import MNEMONICS, NOTRACK, REPEATS
from callgate.asm.assembler.language.names import (
    GLOBAL_OFFSET_TABLE,
    OFFSET_TABLE_ENTRY,
    OFFSET_TABLE_LABEL,
    UNIT_WIDE,
    Constant,
    Label,
    Names,
    Scope,
)
from callgate.asm.assembler.language.preprocess import ASSIGNMENT, DIRECTIVE, PREPROCESSED, SETTING
from callgate.asm.assembler.language.registers import REGISTERS, SEGMENT_PREFIXES
from callgate.asm.assembler.language.sections import (
    COMMONS,
    FLAGS,
    IGNORED,
    SECTION_WORDS,
    default_flags,
    leaves_section,
    read_section,
    refuse_other_syntax,
)
from callgate.asm.assembler.language.source import Line, unquote
from callgate.kernel.common.near_miss import did_you_mean

LABEL = re.compile(r"\s*(?P<name>\.?[A-Za-z_]\w*(?:\.\w+)*|[0-9]+)\s*:(?!:)", re.ASCII)
NO_NAME = re.compile(r"\s*(?P<name>[A-Za-z0-9_.$?@~#]+)\s*:")
DECLARED = re.compile(r"(?P<word>\.?[A-Za-z]\w*)\b", re.ASCII)
MNEMONIC = re.compile(r"\s*(?P<word>[A-Za-z]\w*)(?![\w.])\s*(?P<rest>.*)$", re.DOTALL | re.ASCII)
PREFIXES = frozenset(("lock", NOTRACK, *REPEATS, *SEGMENT_PREFIXES))
PAUSES = {name for name, byte in REPEATS.items() if byte == 0xF3}
DATA_SIZES = {
    ".byte": 1, ".db": 1, ".word": 2, ".short": 2, ".dw": 2, ".value": 2, ".hword": 2, ".2byte": 2, ".long": 4,
    ".dword": 4, ".int": 4, ".dd": 4, ".4byte": 4, ".quad": 8, ".dq": 8, ".8byte": 8, ".octa": 16,
}  # fmt: skip
TEXTS = (".ascii", ".asciz", ".string")
SPACES = (".space", ".zero", ".skip", ".fill", ".align", ".balign", ".p2align", ".org", ".incbin")
FLOATS = (".float", ".single", ".double", ".tfloat")
PROBES = (".event", ".ledger")
DIRECTIVES = (
    *DATA_SIZES, *FLOATS, *TEXTS, *SPACES, *PROBES, *FLAGS, *SECTION_WORDS, *COMMONS, *IGNORED, *PREPROCESSED,
    ".assert", ".error", ".equ", ".set", ".global", ".globl", ".intel_syntax", *FRAME_WORDS, ".layout",
)  # fmt: skip
DATA_DIRECTIVES = frozenset((*DATA_SIZES, *FLOATS, *TEXTS, ".space", ".zero", ".skip", ".fill"))
NAME_RULE = "a name has letters, digits and _, and begins with none of the digits"
TABLE_ENTRY = re.compile(r"([\w.]+)@GOT\b", re.ASCII)
# Directives of other assemblers, and ours.
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
    scope: Scope
    word: str = ""
    rest: str = ""
    column: int = 1
    prefix: str = ""
    address: int = 0
    data: bytes = b""
    size: int = 0
    grown: bool = False  # a branch that has become near
    fixed: bool = False  # its bytes depend on nothing that may still move


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

    @property
    def dropped(self) -> bool:
        """Whether nothing of it is loaded, as of sections for debuggers and linkers."""
        return "r" not in self.flags


class Reader:
    """Takes in the lines of a unit."""

    def __init__(self, names: Names, errors: ErrorList, macros: Collection[str] = ()) -> None:
        self.names = names
        self.errors = errors
        self.macros = macros
        self.chunks: dict[str, Chunk] = {}
        self.exported: dict[str, Statement] = {}
        self.scope = Scope()
        self.section = ".text"
        self.previous = ".text"
        self.commons: list[Statement] = []
        self.pushed: list[tuple[str, str]] = []

    def read(self, lines: list[Line]) -> None:
        """Turn the lines into statements; errors are noted."""
        for line in lines:
            try:
                self._line(line)
            except AsmError as error:
                self.errors.add(error)
        if self.commons:  # after all others, as GNU as has them
            self.chunk(".bss").statements += self.commons

    def chunk(self, name: str, flags: str = "") -> Chunk:
        """Return a section, new or begun earlier."""
        known = self.chunks.get(name)
        if known is None:
            known = self.chunks[name] = Chunk(name, flags or default_flags(name))
        return known

    def enter(self, chunk: Chunk) -> None:
        """Continue in a section."""
        self.previous, self.section = self.section, chunk.name

    def _put(self, statement: Statement) -> None:
        self.chunk(self.section).statements.append(statement)

    def _line(self, line: Line) -> None:
        text = line.text
        position = 0
        if self.section in self.chunks and self.chunks[self.section].dropped and not leaves_section(text):
            return
        if "@GOT" in text or GLOBAL_OFFSET_TABLE in text:
            self._offset_table(line)
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
        if name[0].isdigit():
            self._numbered_label(str(int(name)), line, place)
            return
        local = name.startswith(".")
        if local and not name.startswith(UNIT_WIDE):
            if not self.scope.label:
                raise AsmError(
                    place, f"local label {name} has no global label before it", "define one above, or drop the dot"
                )
            name = self.scope.label + name
        elif not local:
            self.scope = replace(self.scope, label=name)
        self.names.add_label(Label(name, self.section, place, local=local))
        self._put(Statement("label", line, self.scope, name))

    def _numbered_label(self, number: str, line: Line, place: Place) -> None:
        """Define a label like `1:`, which may come again."""
        known = self.names.numbered.setdefault(number, [])
        key = f"{number}#{len(known)}"
        known.append(Label(key, self.section, place, local=True))
        self.names.labels[key] = known[-1]
        self.scope = self.scope.behind(number)
        self._put(Statement("label", line, self.scope, key))

    def _offset_table(self, line: Line) -> None:
        """Make the global offset table that code for any address names, and an entry for each `name@GOT`."""
        chunk = self.chunk(".got", "rw")
        labels = self.names.labels
        for name in (OFFSET_TABLE_LABEL, *(OFFSET_TABLE_ENTRY + name for name in TABLE_ENTRY.findall(line.text))):
            if name not in labels:
                self.names.add_label(Label(name, chunk.name, line.place, local=True))
                chunk.statements.append(Statement("label", line, self.scope, name))
                if name != OFFSET_TABLE_LABEL:
                    symbol = name.removeprefix(OFFSET_TABLE_ENTRY)
                    chunk.statements.append(Statement("data", line, self.scope, ".long", symbol))

    def _assign(self, match: re.Match[str], line: Line, position: int) -> None:
        name = match["name"]
        place = line.place.at(position + match.start("name") + 1)
        if name.lower() in REGISTERS:
            raise AsmError(place, f"{name} is a register", "choose another name")
        value_place = line.place.at(position + match.start("value") + 1)
        constant = Constant(name, match["value"], value_place, self.scope)
        if match.re is SETTING and match["word"].lower() == ".set":
            self.names.add_setting(constant)
            self.scope = self.scope.behind(name)
            name = f"{name}#{self.scope.counts[name]}"
            self.names.constants[name] = constant
        else:
            self.names.add_constant(constant)
        if constant.value is None:
            self._put(Statement("here", line, self.scope, name))

    def _directive(self, written: str, rest: str, line: Line, column: int, whole: str) -> None:
        word = written.lower()
        place = line.place.at(line.text.find(written) + 1)
        if word in FLAGS or word in SECTION_WORDS:
            self._section_word(word, rest, line.place.at(column))
        elif word in (".equ", ".set"):
            setting = SETTING.match(whole)
            if setting is None:
                raise AsmError(place, f"{word} wants a name and a value", f"write {word} name, value")
            self._assign(setting, line, len(line.text) - len(whole))
        elif word in (".global", ".globl"):
            self._export(word, rest, line, column, place)
        elif word == ".error":
            raise AsmError(place, unquote(rest, line.place.at(column), "a text"))
        elif word in COMMONS:
            self._common(word, rest, line, column)
        elif word not in IGNORED and word not in FRAME_IGNORED:
            refuse_other_syntax(word, rest, place)
            if word == ".intel_syntax":
                self.names.gnu_syntax = True
            else:
                self._put(Statement(self._kind(word, written, line), line, self.scope, word, rest, column))

    def _export(self, word: str, rest: str, line: Line, column: int, place: Place) -> None:
        """`.global name, name`."""
        if not rest:
            raise AsmError(place, f"{word} wants a name", f"write {word} name, name")
        for name in split_arguments(rest):
            self.exported.setdefault(name, Statement("export", line, self.scope, name, "", column))

    def _section_word(self, word: str, rest: str, place: Place) -> None:
        """`.text`, `.section`, `.pushsection`, `.popsection`, `.previous`."""
        if word in (".popsection", ".previous") or word in FLAGS:
            if rest:
                raise AsmError(place, f"{word} takes no argument", f"write {word} alone")
        if word in FLAGS:
            self.enter(self.chunk(word))
        elif word == ".previous":
            self.section, self.previous = self.previous, self.section
        elif word == ".popsection":
            if not self.pushed:
                raise AsmError(place, ".popsection without .pushsection", "begin with .pushsection, or leave this out")
            self.section, self.previous = self.pushed.pop()
        else:
            wanted = read_section(rest, place)
            chunk = self.chunk(wanted.name, wanted.flags)
            if wanted.flags and wanted.flags != chunk.flags:
                raise AsmError(place, f"section {chunk.name} already has the flags {chunk.flags}", "leave them out")
            if word == ".pushsection":
                self.pushed.append((self.section, self.previous))
            self.enter(chunk)

    def _common(self, word: str, rest: str, line: Line, column: int) -> None:
        """`.comm name, size[, alignment]`: zeros with a name."""
        place = line.place.at(column)
        name, *numbers = split_arguments(rest) if rest else [""]
        if not 1 <= len(numbers) <= 2 or not re.fullmatch(r"[A-Za-z_.][\w.]*", name, re.ASCII):
            raise AsmError(place, f"{word} wants a name and a size", f"write {word} name, size, alignment")
        chunk = self.chunk(".bss")
        if len(numbers) == 2:
            self.commons.append(Statement("space", line, self.scope, ".balign", numbers[1], column))
        self.names.add_label(Label(name, chunk.name, place))
        self.commons.append(Statement("label", line, self.scope, name))
        self.commons.append(Statement("space", line, self.scope, ".space", numbers[0], column))

    def _kind(self, word: str, written: str, line: Line) -> str:
        for kind, words in (
            ("data", DATA_SIZES),
            ("float", FLOATS),
            ("text", TEXTS),
            ("space", SPACES),
            ("mark", PROBES),
            ("frame", FRAME_WORDS),
            ("layout", (".layout",)),
        ):
            if word in words:
                return kind
        if word == ".assert":
            return "check"
        place = line.place.at(line.text.find(written) + 1)
        if word in DIRECTIVES:
            raise AsmError(place, f"{word} stands on a line of its own", "put the label on the line before")
        hint = did_you_mean(word, DIRECTIVES) or "docs/assembler.md lists them"
        raise AsmError(place, f"there is no directive {written}", hint)

    def _instruction(self, rest: str, position: int, line: Line) -> None:
        prefixes: list[str] = []
        match = MNEMONIC.match(rest)
        while match is not None and match["word"].lower() in PREFIXES and match["rest"][:1].isalpha():
            prefixes.append(match["word"].lower())
            position += match.start("rest")
            match = MNEMONIC.match(match["rest"])
        if match is not None and len(prefixes) == 1 and prefixes[0] in PAUSES and match[0].strip().lower() == "nop":
            prefixes, match = [], MNEMONIC.match("pause")  # REP NOP, as compilers write it
        if match is None:
            place = line.place.at(position + 1 + len(line.text[position:]) - len(line.text[position:].lstrip()))
            raise self._no_statement(line, place)
        word = match["word"].lower()
        place = line.place.at(position + match.start("word") + 1)
        if word not in MNEMONICS:
            raise self._unknown(match["word"], match["rest"], replace(line, place=place))
        if not self.chunk(self.section).executable:
            raise AsmError(place, f"instructions cannot stand in {self.section}", "switch to .text before it")
        if self.names.gnu_syntax:
            refuse_swallowed(line)
        column = position + match.start("rest") + 1
        statement = Statement("code", line, self.scope, word, match["rest"].strip(), column, " ".join(prefixes))
        self._put(statement)

    def _no_statement(self, line: Line, place: Place) -> AsmError:
        text = line.text[place.column - 1 :].strip()
        if name := NO_NAME.match(text):
            return AsmError(place, f"{name['name']} is not the name of a label", NAME_RULE)
        if text.startswith("\\"):
            return AsmError(place, f"{text.split()[0]} is not a parameter of a macro here", "declare it after .macro")
        return AsmError(place, f"{text[:1]!r} begins no statement", "write a label, a directive or an instruction")

    def _unknown(self, word: str, rest: str, line: Line) -> AsmError:
        if word.lower() in PREFIXES:
            hint = "write it before the instruction, on the same line"
            hint += "; a semicolon begins a comment" * (";" in line.place.text)
            return AsmError(line.place, f"{word} is a prefix, and no instruction follows", hint)
        if word.lower()[:-1] in MNEMONICS and "%" in rest:
            hint = f"this is the syntax of AT&T; write {word[:-1]} destination, source, without % and $"
            return AsmError(line.place, f"there is no instruction {word}", hint)
        written = line.text[line.place.column - 1 :]
        if (name := NO_NAME.match(written)) and name["name"] != word:
            return AsmError(line.place, f"{name['name']} is not the name of a label", NAME_RULE)
        declared = DECLARED.match(rest)
        if declared and (kind := FOREIGN.get(declared["word"].lower(), declared["word"])) in DATA_DIRECTIVES:
            what = f"{word} is not followed by a colon, so it is not a label"
            return AsmError(line.place, what, f"write {word}: {kind} {rest[declared.end() :].strip()}".rstrip())
        foreign = FOREIGN.get(word.lower())
        if foreign is not None:
            return AsmError(line.place, f"{word} belongs to another assembler", f"write {foreign}")
        if word in self.macros:
            return AsmError(line.place, f"macro {word} is defined further down", "move its definition above")
        hint = did_you_mean(word.lower(), MNEMONICS) or did_you_mean(word, self.macros)
        if not hint and (not rest.strip() or rest.split(maxsplit=1)[0].lower() in MNEMONICS):
            hint = f"a label is written {word}:"
        hint = hint or "names are those of the Intel manual, up to SSE4.2"
        return AsmError(line.place, f"there is no instruction {word}", hint)
