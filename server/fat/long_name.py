"""Collecting the records of a long name, which precede the short entry they belong to.

Sections "FAT Long Directory Entries" and "Organization and Association of Short & Long Directory Entries":
the last piece comes first, ordinals count down to 1 without a gap, and each piece carries the checksum of
the short name.  A set that breaks a rule is an orphan; the short name is then all there is.
"""

from typing import Final

from callgate.server.fat.names import checksum, decode_long_name
from callgate.server.fat.structures import LAST_LONG_ENTRY, LongNameRecord

_MOST_PIECES: Final = 20  # 255 units in pieces of 13
_DAMAGE_KEPT: Final = 8


class LongNameCollector:
    """Takes long-name records in the order of the disk, and gives the name to the short entry."""

    def __init__(self) -> None:
        self.damage: list[str] = []
        self._pieces: list[bytes] = []
        self._expected = 0  # ordinal of the next piece; 0 when the set is complete or there is none
        self._checksum = -1

    def reset(self) -> None:
        """Forget the collected records: the next one was not a short entry."""
        if self._pieces:
            self._note("orphaned long-name records")
        self._pieces = []
        self._expected = 0

    def add(self, raw: bytes) -> None:
        """Take one long-name record of 32 bytes."""
        record = LongNameRecord.from_buffer_copy(raw)
        ordinal = record.LDIR_Ord & ~LAST_LONG_ENTRY
        if record.LDIR_Ord & LAST_LONG_ENTRY:
            self.reset()
            if not 1 <= ordinal <= _MOST_PIECES or record.LDIR_Type:
                self._note(f"a long name that begins with ordinal {ordinal}")
                return
            self._checksum = record.LDIR_Chksum
        elif not self._expected or ordinal != self._expected or record.LDIR_Chksum != self._checksum:
            self.reset()
            self._note("a piece of a long name that is out of order")
            return
        name = bytes(record.LDIR_Name1) + bytes(record.LDIR_Name2) + bytes(record.LDIR_Name3)
        self._pieces.append(name)
        self._expected = ordinal - 1

    def take(self, short: bytes) -> str | None:
        """Return the long name of the short entry with DIR_Name ``short``, or None; forget it."""
        pieces, self._pieces = self._pieces, []
        complete, self._expected = self._expected == 0, 0
        if not pieces:
            return None
        if not complete or checksum(short) != self._checksum:
            self._note("a long name that does not belong to the short name after it")
            return None
        name = decode_long_name(b"".join(reversed(pieces)))
        if name is None:
            self._note("a long name of characters or of a length that names cannot have")
        return name

    def _note(self, text: str) -> None:
        if len(self.damage) < _DAMAGE_KEPT:
            self.damage.append(text)
