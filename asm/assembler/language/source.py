"""Source files: reading, finding includes, cutting comments off.

Every file that has been read, and every place where a file was looked for and not found, is remembered:
the cache must assemble anew when one of them changes.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from callgate.asm.assembler.language.errors import AsmError, Place

SPECIAL = re.compile(r"[\"'#;]|//|/\*")
PIECE = re.compile(
    r"""
    "(?:\\.|[^"\\])*"
  | '(?:\\.[^']{0,2}|[^'\\])'
  | (?P<block>/\*.*?(?:(?P<closed>\*/)|$))
  | (?P<line>(?:[;\#]|//).*$)
    """,
    re.VERBOSE,
)
# What compilers write around inline assembly, which is in the language of GNU as.
INLINE = "#APP"
INLINE_END = "#NO_APP"
LONE_PREFIX = re.compile(r"\b(?:lock|rep|repe|repz|repne|repnz)\s*;", re.IGNORECASE)
INLINE_PIECE = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.[^']{0,2}|[^'\\])'|(?P<comment>\#.*)|(?P<separator>;)""")
BYTE_ORDER_MARK = "\ufeff"
OURS = Path(__file__).parents[3]  # the folders of the package `callgate` lie here


@dataclass(frozen=True, slots=True)
class Line:
    """A line of source without its comment, and its place."""

    text: str
    place: Place


@dataclass(slots=True)
class Sources:
    """The files of a unit."""

    include_dirs: Sequence[Path] = ()
    digests: dict[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)

    def read(self, path: Path) -> bytes:
        """Return a file's bytes; OSError if it cannot be read."""
        data = path.read_bytes()
        self.digests[str(path.resolve())] = hashlib.sha256(data).hexdigest()
        return data

    def find(self, name: str, place: Place, beside: Path | None) -> Path:
        """Return the path of a file named in a source: beside that source, then in the include folders."""
        folders = ([beside.parent] if beside else []) + list(self.include_dirs)
        for folder in folders:
            candidate = folder / name
            try:
                if candidate.is_file():
                    return candidate
            except (OSError, ValueError):
                continue
            self.missing.add(str(candidate.absolute()))
        tops = [folder for folder in folders if not (OURS in folder.parents and {*folder.parents} & {*folders})]
        looked = ", ".join(shown(folder) for folder in tops) or "no folder: pass include_dirs"
        raise AsmError(place, f"{name} cannot be found", f"looked in {looked}")

    def lines(self, path: Path, chain: tuple[str, ...], place: Place | None = None) -> list[Line]:
        """Return the lines of a source file; AsmError at `place` if it cannot be read."""
        try:
            data = self.read(path)
        except OSError as error:
            if place is None:
                raise
            raise AsmError(place, f"{path} cannot be read: {error.strerror or error}") from None
        return text_lines(decode(data), str(path), chain)


def shown(folder: Path) -> str:
    """Return a folder's name for messages: folders that come with callgate lie elsewhere on every computer."""
    return f"callgate/{folder.relative_to(OURS).as_posix()}" if folder.is_relative_to(OURS / "asm") else str(folder)


def decode(data: bytes) -> str:
    """Return a source's text: UTF-8, with or without a byte order mark; other bytes are kept as surrogates."""
    return data.decode("utf-8", "surrogateescape").removeprefix(BYTE_ORDER_MARK)


def split_lines(text: str) -> list[str]:
    """Return the lines of a text.  LF and CR LF end one; a CR alone, a form feed and U+2028 do not."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def text_lines(text: str, name: str, chain: tuple[str, ...] = ()) -> list[Line]:
    """Return the lines of a text that hold more than comments; AsmError if it is not text at all."""
    zero = text.find("\0")
    if zero >= 0:
        place = Place(name, text.count("\n", 0, zero) + 1, zero - text.rfind("\n", 0, zero), chain=chain)
        raise AsmError(place, "a zero byte: this is not text", "save the source as UTF-8")
    return list(strip_comments(text.removeprefix(BYTE_ORDER_MARK), name, chain))


def strip_comments(text: str, name: str, chain: tuple[str, ...]) -> Iterator[Line]:
    """Yield lines without comments; strings and character constants are left alone."""
    opened: Place | None = None
    inline = False
    for number, original in enumerate(split_lines(text), 1):
        stripped = original
        still_open = opened is not None
        if "APP" in original:
            inline = (inline or original.strip() == INLINE) and original.strip() != INLINE_END
        if inline and not still_open and ";" in original:
            for piece in separated(original):
                yield Line(piece, Place(name, number, 1, piece, chain))
            continue
        if still_open or SPECIAL.search(original):
            stripped, still_open = strip_line(original, still_open)
            if still_open and opened is None:
                opened = Place(name, number, original.rfind("/*") + 1, original, chain)
        if not still_open:
            opened = None
        if stripped and not stripped.isspace():
            yield Line(stripped, Place(name, number, 1, original, chain))
    if opened is not None:
        raise AsmError(opened, "the comment does not end", "close it with */")


def separated(text: str) -> Iterator[str]:
    """Yield the statements of a line of inline assembly, where a semicolon separates them; columns stay.

    A prefix may be a statement of its own there: `lock; inc`.
    """
    start = 0
    text = LONE_PREFIX.sub(lambda match: match[0][:-1] + " ", text)
    for match in INLINE_PIECE.finditer(text):
        if match["comment"]:
            text = text[: match.start()]
            break
        if match["separator"]:
            yield " " * start + text[start : match.start()]
            start = match.end()
    yield " " * start + text[start:]


def strip_line(text: str, inside: bool) -> tuple[str, bool]:
    """Return a line with comments blanked, and whether a block comment goes on; columns stay."""
    if not inside and text.lstrip()[:1] == ";":  # as most lines are in a file of cases
        return "", False
    start = 0
    out: list[str] = []
    if inside:
        end = text.find("*/")
        if end < 0:
            return "", True
        start = end + 2
        out.append(" " * start)
    still_open = False
    for match in PIECE.finditer(text, start):
        if match["line"] is None and match["block"] is None:
            continue
        out.append(text[start : match.start()])
        start = match.end()
        if match["block"] is not None:
            out.append(" " * (match.end() - match.start()))
            still_open = match["closed"] is None
    out.append(text[start:])
    return "".join(out), still_open


def unquote(text: str, place: Place, what: str = "a file name") -> str:
    """Return the file name, or what it is, between double quotes."""
    text = text.strip()
    if len(text) < 3 or text[0] != '"' or text[-1] != '"' or '"' in text[1:-1]:
        raise AsmError(place, f"{what} in double quotes is expected", 'write "…" after the directive')
    if "\0" in text:
        raise AsmError(place, "a file name holds no zero byte")
    return text[1:-1]
