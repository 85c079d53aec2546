"""The packets of gdb's Remote Serial Protocol: framing, checksums, escapes, run-length encoding.

`$payload#cs`: `cs` is the sum of the payload's bytes, modulo 256, in two hex digits.  In a payload `}` escapes the next
byte, which is XORed with 20h, and `*` repeats the byte before it (GDB manual, E.1, "Overview").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

MOST: Final = 1 << 17  # bytes of a packet, framing included: what `PacketSize` tells gdb
START, END, ESCAPE, REPEAT, BREAK = b"$#}*\x03"
ESCAPED: Final = b"}$#*"
FLIP: Final = 0x20
REPEAT_BIAS: Final = 29  # of a count, so that it is printable
CHECK_DIGITS: Final = 2
DISCARDED: Final = 4 * MOST  # bytes of one packet that are read before the rest of it is taken for noise


class Sign(Enum):
    """What comes besides packets."""

    ACK = auto()  # the last packet has arrived
    NAK = auto()  # send the last packet again
    BREAK = auto()  # Ctrl-C: stop the machine
    DAMAGED = auto()  # a packet whose checksum is wrong, or that is too long
    END = auto()  # nothing more will come


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet's payload, escapes and repetitions resolved."""

    payload: bytes


Item = Packet | Sign


def frame(payload: bytes) -> bytes:
    """Return a payload as a packet."""
    return b"$%s#%02x" % (payload, sum(payload) & 0xFF)


def escape(data: bytes) -> bytes:
    """Return binary data as they may stand in a payload."""
    for byte in ESCAPED:  # `}` first
        data = data.replace(bytes((byte,)), bytes((ESCAPE, byte ^ FLIP)))
    return data


def resolve(payload: bytes) -> bytes | None:
    """Return a payload without escapes and repetitions; None if one of them is incomplete or the whole is too long."""
    if ESCAPE not in payload and REPEAT not in payload:
        return payload
    data = bytearray()
    rest = iter(payload)
    for byte in rest:
        if byte == ESCAPE:
            escaped = next(rest, None)
            if escaped is None:
                return None
            data.append(escaped ^ FLIP)
        elif byte == REPEAT:
            count = next(rest, None)
            if count is None or count < REPEAT_BIAS or not data:
                return None
            data += data[-1:] * (count - REPEAT_BIAS)
        else:
            data.append(byte)
        if len(data) > DISCARDED:
            return None
    return bytes(data)


class Decoder:
    """Takes bytes as they come and returns packets and signs; never raises, whatever comes."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def feed(self, data: bytes) -> list[Item]:
        """Return what is complete by now."""
        self.buffer += data
        items: list[Item] = []
        while (item := self._take()) is not None:
            items.append(item)
        return items

    def _take(self) -> Item | None:
        buffer = self.buffer
        while buffer:
            first = buffer[0]
            if first == START:
                return self._packet()
            del buffer[0]
            if first == BREAK:
                return Sign.BREAK
            if first in b"+-":
                return Sign.ACK if first == ord("+") else Sign.NAK
        return None

    def _packet(self) -> Item | None:
        buffer = self.buffer
        end = buffer.find(END)
        # A packet that begins within another: the rest of the first one was lost.
        again = buffer.find(START, 1, end if end >= 0 else len(buffer))
        if again > 0:
            del buffer[:again]
            return Sign.DAMAGED
        if end < 0 or len(buffer) < end + 1 + CHECK_DIGITS:
            if len(buffer) > DISCARDED:
                buffer.clear()
                return Sign.DAMAGED
            return None
        payload, check = bytes(buffer[1:end]), bytes(buffer[end + 1 : end + 1 + CHECK_DIGITS])
        del buffer[: end + 1 + CHECK_DIGITS]
        if check.lower() != b"%02x" % (sum(payload) & 0xFF) or len(payload) > MOST:
            return Sign.DAMAGED
        data = resolve(payload)
        return Sign.DAMAGED if data is None else Packet(data)
