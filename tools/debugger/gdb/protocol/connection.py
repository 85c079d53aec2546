"""The line to gdb: a TCP connection or a pipe, with acknowledgements until both sides do without."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable

from callgate.tools.debugger.gdb.protocol.packets import Decoder, Item, Packet, Sign, frame

CHUNK = 1 << 16
POLL_SECONDS = 0.05  # between two looks for signals while gdb is silent
PRODS = 200  # in ten seconds of silence


class Connection:
    """One connection.  What gdb sends is taken in when asked for; nothing happens on another thread."""

    def __init__(self, reading: int, writing: int, close: Callable[[], object]) -> None:
        """Use two descriptors, which may be the same; `close` closes them."""
        self.reading = reading
        self.writing = writing
        self._close = close
        self.decoder = Decoder()
        self.items: deque[Item] = deque()
        self.acknowledged = True  # each packet is answered by + or -
        self.last = b""
        self.ended = False  # gdb sends nothing more
        self.deaf = False  # gdb takes nothing more
        self.prods = 0  # how many times more gdb is prodded while it is silent

    def poll(self) -> bool:
        """Take in what has come; whether the machine is to stop: for Ctrl-C, or because gdb has gone."""
        while not self.ended and select.select([self.reading], [], [], 0)[0]:
            self._take_in()
        if Sign.BREAK in self.items:
            self.items.remove(Sign.BREAK)
            return True
        return self.ended

    def speaks(self) -> bool:
        """Take in what has come; whether there is more than acknowledgements, or gdb has gone."""
        while not self.ended and select.select([self.reading], [], [], 0)[0]:
            self._take_in()
        while self.items and self.items[0] is Sign.ACK:
            self.items.popleft()
        return bool(self.items or self.ended)

    def receive(self, given_up: Callable[[], bool]) -> bytes | None:
        """Return the next packet's payload; None at the end of the connection, or if `given_up()` says so."""
        while True:
            while self.items:
                item = self.items.popleft()
                if isinstance(item, Packet):
                    if self.acknowledged:
                        self._drop_repetitions(item)
                        self._write(b"+")
                    return item.payload
                if item is Sign.NAK and self.acknowledged:
                    self._write(self.last)
                elif item is Sign.DAMAGED and self.acknowledged:
                    self._write(b"-")
            if self.ended or given_up():
                return None
            if select.select([self.reading], [], [], POLL_SECONDS)[0]:
                self._take_in()
            elif self.prods:
                self.prods -= 1
                self._write(b"+")

    def prod(self) -> None:
        """Send gdb an acknowledgement, of which it takes no notice, whenever it is silent; until it lets something run.

        After `starti` it has a stop that it has not told its user, and looks for it in one of its inferiors by chance.
        If it has looked in another one, it sleeps until something comes, and has asked for nothing (13.1 and 18.1).
        """
        self.prods = PRODS

    def _drop_repetitions(self, packet: Packet) -> None:
        """Drop packets like one that is not acknowledged yet: gdb has repeated it, because that takes so long."""
        while not self.ended and select.select([self.reading], [], [], 0)[0]:
            self._take_in()
        while self.items and self.items[0] == packet:
            self.items.popleft()

    def send(self, payload: bytes) -> None:
        """Send a packet; nothing if gdb has gone."""
        self.last = frame(payload)
        self._write(self.last)

    def close(self) -> None:
        """Close the connection."""
        self.ended = self.deaf = True
        self._close()

    def _take_in(self) -> None:
        try:
            data = os.read(self.reading, CHUNK)
        except OSError:
            data = b""
        if not data:
            self.ended = True
        self.items.extend(self.decoder.feed(data))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view and not self.deaf:
                view = view[os.write(self.writing, view) :]
        except OSError:  # a broken pipe, or a reset
            self.ended = self.deaf = True
