"""Directives that choose a section, and those of compilers that have no effect here.

Flags are letters: ours are r, w, x, and z for zeros that are not in the file; compilers write those of ELF
(`"aMS",@progbits,1`), where a section without `a` is for debuggers and linkers, and is left out.
"""

import re
from dataclasses import dataclass

from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.macros import split_arguments

NAME = re.compile(r"[A-Za-z_.][\w.$-]*", re.ASCII)
# Permissions of a section whose directive names none, by the beginning of its name.
FLAGS = {".text": "rx", ".rodata": "r", ".data": "rw", ".bss": "rwz"}
DROPPED = "-"  # flags of a section that is left out
DROPPED_NAMES = (".debug_", ".comment", ".note.GNU", ".stab")
OUR_FLAGS = frozenset("rwxz")
ELF_FLAGS = frozenset("awxMSGRoe?")
SECTION_WORDS = (".section", ".pushsection", ".popsection", ".previous")
LEAVES = re.compile(rf"\s*(?:{'|'.join(map(re.escape, (*SECTION_WORDS, *FLAGS)))})\b", re.IGNORECASE)
COMMONS = (".comm", ".lcomm")
# Directives of compilers for linkers and debuggers: there is one unit, and it has line tables of its own.
IGNORED = frozenset(
    """
    .extern .type .size .file .loc .ident .weak .hidden .protected .internal .local .version .code32 .arch .addrsig
    .addrsig_sym .loc_mark_labels
    """.split()
)
OTHER_SYNTAX = {
    ".att_syntax": "the syntax is that of Intel; let gcc write it with -masm=intel",
    ".code16": "code is always 32-bit",
    ".code16gcc": "code is always 32-bit",
    ".code64": "code is always 32-bit",
}


@dataclass(frozen=True, slots=True)
class SectionWish:
    """A section as a directive names it; no flags if it names none."""

    name: str
    flags: str


def default_flags(name: str) -> str:
    """Return the flags of a section whose directive names none."""
    if name.startswith(DROPPED_NAMES):
        return DROPPED
    return next((letters for stem, letters in FLAGS.items() if name.startswith(stem)), "rx")


def leaves_section(text: str) -> bool:
    """Whether a line chooses a section."""
    return LEAVES.match(text) is not None


def read_section(rest: str, place: Place) -> SectionWish:
    """Return the text after `.section`."""
    parts = split_arguments(rest) if rest else [""]
    name = parts[0].strip('"')
    written = next((part for part in parts[1:3] if part.startswith('"')), "")  # .pushsection name, 0, "flags"
    flags = written.strip('"')
    known = OUR_FLAGS | ELF_FLAGS
    if "T" in flags:
        raise AsmError(place, f"section {name} is thread-local", "there is no thread-local storage; use a variable")
    if not NAME.fullmatch(name) or not set(flags) <= known or (len(parts) > 1 and not written and parts[1] != "0"):
        hint = 'write .section .name, or .section .name, "rwx" with flags of r, w, x, and z for zeros'
        raise AsmError(place, "the section's name or flags are not understood", hint)
    if not written:
        return SectionWish(name, "")
    if not set(flags) & set("arwxz"):
        return SectionWish(name, DROPPED)
    zero = "z" in flags or "@nobits" in parts
    return SectionWish(name, "r" + "".join(letter for letter in "wx" if letter in flags) + "z" * zero)


def refuse_other_syntax(word: str, rest: str, place: Place) -> None:
    """Refuse directives that would change the meaning of the rest of the source."""
    if word in OTHER_SYNTAX:
        raise AsmError(place, f"{word} is not supported", OTHER_SYNTAX[word])
    if word == ".intel_syntax" and rest not in ("", "noprefix"):
        raise AsmError(place, "registers are written without %", "write .intel_syntax noprefix")
