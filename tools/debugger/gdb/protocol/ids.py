"""Threads and processes as gdb numbers them.

gdb knows no process 0, so a process's number is one higher there: the kernel is 1.  Threads have their own numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from callgate.tools.debugger.gdb.protocol.errors import Refused

ALL, ANY = -1, 0


@dataclass(frozen=True, slots=True)
class ThreadId:
    """A thread id of a packet: numbers of gdb, ALL or ANY."""

    process: int
    thread: int

    def covers(self, process: int, thread: int) -> bool:
        """Whether it means a thread, given by gdb's numbers."""
        return self.process in (ALL, ANY, process) and self.thread in (ALL, ANY, thread)


def number(text: str) -> int:
    """Read a hex number, or -1; Refused for anything else."""
    if text == "-1":
        return ALL
    if not text or len(text) > 16 or not all(digit in "0123456789abcdefABCDEF" for digit in text):
        raise Refused(f"{text[:40]!r} is not a hexadecimal number")
    return int(text, 16)


def parse(text: str) -> ThreadId:
    """Read `pPID.TID`, `pPID` or `TID`; Refused for anything else."""
    if not text.startswith("p"):
        return ThreadId(ANY, number(text))
    process, dot, thread = text[1:].partition(".")
    return ThreadId(number(process), number(thread) if dot else ALL)
