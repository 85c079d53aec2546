"""The oracle of the assembler's tests: GNU as for encodings."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import host_programs
import pytest

SLOT = 16  # bytes set aside for an instruction; the longest one has 15
FILLER = 0xCC
MESSAGE = re.compile(r"^\S+:(\d+): Error: (.*)$", re.MULTILINE)

GnuAs = Callable[[Sequence[str]], list[bytes | str]]


def run_as(folder: Path, lines: Sequence[str], tail: str = "") -> list[bytes | str]:
    """Assemble every line alone with GNU as; return its bytes, or its error message.

    Each line gets a slot of its own, filled up with INT3, so that one run of `as` serves thousands.  `tail`
    is appended: definitions that the lines refer to before they are known.
    """
    errors: dict[int, str] = {}
    source, image, binary = folder / "lines.s", folder / "lines.o", folder / "lines.bin"
    for _ in range(3):
        text = [".intel_syntax noprefix", ".code32"]
        for number, line in enumerate(lines):
            text.append(line if number not in errors else "")
            text.append(f".org {(number + 1) * SLOT}, {FILLER}")
        source.write_text("\n".join((*text, tail, "")), encoding="utf-8")
        options = ("--32", "-msyntax=intel", "-mnaked-reg", "-W")
        result = host_programs.attempt("as", *options, "-o", image, source)
        if not result.returncode:
            break
        for where, message in MESSAGE.findall(result.stderr.decode()):
            errors[(int(where) - 3) // 2] = message
    host_programs.run("objcopy", "-O", "binary", "-j", ".text", image, binary)
    code = binary.read_bytes()
    slots = [code[at : at + SLOT] for at in range(0, len(lines) * SLOT, SLOT)]
    return [errors.get(number, slot) for number, slot in enumerate(slots)]


@pytest.fixture
def gnu_as(tmp_path: Path) -> GnuAs:
    host_programs.find("as", "objcopy")
    return lambda lines: run_as(tmp_path, lines)


@pytest.fixture
def slot() -> Callable[[bytes], bytes]:
    """Return a function that fills an encoding up to the size of a slot."""
    return lambda code: code + bytes([FILLER]) * (SLOT - len(code))
