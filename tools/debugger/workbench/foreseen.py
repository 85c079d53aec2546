"""Memory as it is about to be: an access of the CPU is told of before it is made."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from callgate.kernel.machine.memory.accounts import Account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callgate.kernel.machine import Machine
    from callgate.tools.debugger.debuggee.watchpoints import Access


@contextmanager
def written(machine: Machine, access: Access) -> Iterator[None]:
    """Have memory hold what the CPU is about to write, within the block: a condition is about what has been."""
    changed = access.by == "cpu" and access.write and access.before != access.after
    if changed:
        overlay(machine, access, access.after)
    try:
        yield
    finally:
        if changed:
            overlay(machine, access, access.before)


def overlay(machine: Machine, access: Access, data: bytes) -> None:
    """Write the bytes of the whole watchpoint, where it lies in physical memory."""
    point = access.watchpoint
    for linear, physical, size in point.pieces:
        begin, end = max(linear, point.address), min(linear + size, point.address + len(data))
        if begin < end:
            part = data[begin - point.address : end - point.address]
            machine.ram.write(physical + begin - linear, part, Account.OBSERVER)
