"""Errors of a source: file, line, column, what is wrong and what to write instead."""

from typing import NamedTuple

ERRORS_LIMIT = 20
TEXT_SHOWN = 200
CHAIN_SHOWN = 4


class Place(NamedTuple):
    """A position in a source: file name as given, line and column from 1, and the line's text.

    `chain` tells how the line came here: "included from …", "in macro … called from …", innermost first.
    `call` is where the outermost macro call stands (file, line), None outside macros: a line table names
    that place, because that is the source a programmer sees when stepping through the code.
    """

    file: str
    line: int
    column: int = 1
    text: str = ""
    chain: tuple[str, ...] = ()
    call: tuple[str, int] | None = None

    def at(self, column: int) -> "Place":
        """Return the same line at another column."""
        if column == self.column:
            return self
        return Place(self.file, self.line, column, self.text, self.chain, self.call)  # much faster than _replace()


class AsmError(Exception):
    """One error at one place: `message` says what is wrong, `hint` what to write instead."""

    def __init__(self, place: Place, message: str, hint: str = "") -> None:
        super().__init__(place, message, hint)
        self.place = place
        self.message = message
        self.hint = hint

    @property
    def file(self) -> str:
        """File name as given."""
        return self.place.file

    @property
    def line(self) -> int:
        """Line, from 1."""
        return self.place.line

    @property
    def column(self) -> int:
        """Column in characters, from 1."""
        return self.place.column

    def __str__(self) -> str:
        place = self.place
        head = f"{place.file}:{place.line}:{place.column}: {self.message}"
        if self.hint:
            head += f"; {self.hint}"
        lines = [head]
        if place.text.strip() and len(place.text) <= TEXT_SHOWN:
            lines.append(f"    {printable(place.text.rstrip())}")
            # Tabs stay tabs, so that the caret stands where the column is, whatever a tab is worth.
            marker = "".join(c if c == "\t" else " " for c in place.text[: place.column - 1])
            lines.append(f"    {marker}^")
        lines.extend(f"    {link}" for link in shorten(place.chain))
        return "\n".join(lines)


def printable(text: str) -> str:
    """Return a line as it can be shown: control characters and bytes that are not text are question marks."""
    if text.isprintable():
        return text
    return "".join(c if c == "\t" or c.isprintable() else "?" for c in text)


def shorten(chain: tuple[str, ...]) -> tuple[str, ...]:
    """Return the two ends of a long chain."""
    if len(chain) <= 2 * CHAIN_SHOWN:
        return chain
    return (*chain[:CHAIN_SHOWN], f"… {len(chain) - 2 * CHAIN_SHOWN} more …", *chain[-CHAIN_SHOWN:])


class AsmErrors(Exception):
    """Every error found in one run, at most ERRORS_LIMIT, in the order in which they were met."""

    def __init__(self, errors: list[AsmError]) -> None:
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


class ErrorList:
    """Collects errors, so that one run reports many."""

    def __init__(self) -> None:
        self.errors: list[AsmError] = []

    def add(self, error: AsmError) -> None:
        """Note an error, once; AsmErrors when there are enough."""
        if any(other.place == error.place and other.message == error.message for other in self.errors):
            return
        self.errors.append(error)
        if len(self.errors) >= ERRORS_LIMIT:
            raise AsmErrors(self.errors)

    def check(self) -> None:
        """Raise AsmErrors if there are any."""
        if self.errors:
            raise AsmErrors(self.errors)

    def ordered(self) -> list[AsmError]:
        """Return the errors by line, files in the order in which their first errors were met."""
        files = list(dict.fromkeys(error.file for error in self.errors))
        return sorted(self.errors, key=lambda error: (files.index(error.file), error.line))
