"""A terminal as the shell's line editor needs it: rows of fixed width, and the few control sequences that it writes."""

import re
import unicodedata

TOKEN = re.compile(r"\x1b\[(\d*)([A-Z])|([\s\S])")
TAKEN = ""  # the cell after a character of two columns


def columns_of(character: str) -> int:
    """Return the columns of a character that the tests use, 0 to 2."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class SmallTerminal:
    """`rows` of `width` cells; the cursor waits after the last column of a row, as xterm's does.

    A character of two columns for which a row has no room moves to the next row; marks join the character before.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0
        self.bells = 0

    def write(self, text: str) -> None:
        """Show text and obey control sequences; AssertionError for one that is not known, or that leaves the screen."""
        for number, letter, character in TOKEN.findall(text):
            if letter:
                self._control(letter, int(number or 1))
            elif character == "\n":  # the host's terminal makes CR LF of it
                self._to(self.row + 1, 0)
            elif character == "\r":
                self.column = 0
            elif character == "\a":
                self.bells += 1
            else:
                self._put(character)

    def _control(self, letter: str, number: int) -> None:
        assert number < 1000
        moves = {"A": (-number, 0), "B": (number, 0), "C": (0, number), "D": (0, -number)}
        if letter in moves:
            down, right = moves[letter]
            assert 0 <= self.row + down < len(self.rows)
            assert letter != "D" or self.column < self.width, "terminals differ here"
            column = min(self.column, self.width - 1) + right
            assert 0 <= column < self.width
            self._to(self.row + down, column)
        elif letter == "K":
            del self.rows[self.row][self.column :]
        elif letter == "J":
            del self.rows[self.row][self.column :]
            del self.rows[self.row + 1 :]
        else:
            raise AssertionError(f"control sequence {letter}")

    def _put(self, character: str) -> None:
        columns = columns_of(character)
        assert character.isprintable() or not columns, ascii(character)
        if not columns:
            self._join(character)
            return
        if self.column + columns > self.width:
            self._to(self.row + 1, 0)
        row = self.rows[self.row]
        row += " " * (self.column - len(row))
        after = row[self.column + columns : self.column + columns + 1]
        assert TAKEN not in (row[self.column : self.column + 1] + after), "half of a character would be left"
        row[self.column : self.column + columns] = [character, TAKEN][:columns]
        self.column += columns

    def _join(self, mark: str) -> None:
        row, at = self.rows[self.row], self.column - 1
        if at >= 0:
            row[at - (row[at] == TAKEN)] += mark

    def _to(self, row: int, column: int) -> None:
        while len(self.rows) <= row:
            self.rows.append([])
        self.row, self.column = row, column

    @property
    def text(self) -> list[str]:
        """The rows, with | where the cursor is."""
        rows = ["".join(row) for row in self.rows]
        cells = self.rows[self.row]
        cells = [*cells, *" " * (self.column - len(cells))]
        assert TAKEN not in cells[self.column : self.column + 1], "the cursor is in the middle of a character"
        rows[self.row] = "".join([*cells[: self.column], "|", *cells[self.column :]])
        return rows
