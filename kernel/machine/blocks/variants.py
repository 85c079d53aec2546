"""The translations of one block for different flags of the engine.

The engine keeps a translation of the same code for each value of its flags: the privilege level, whether a segment has
a base, IOPL, AC, RF.  It forgets all of them when one is to be made anew, with hooks.  So when one is, the others that
are known are made at once as well; or two that are executed by turns would forget each other each time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from callgate.kernel.machine.engine.new_engine import TCG_BUFFER
from unicorn import Uc, UcError

MOST_BLOCKS: Final = 1 << 12  # of which variants are known; beyond it all are forgotten
MOST_FLAGS: Final = 8  # variants of a block
ROOM: Final = 4 << 20  # bytes of the engine's buffer: those variants take at most 0.5 MiB
#: What decides whether code can be fetched, how it is decoded and where the block ends: privilege level, interrupts
#: held back for an instruction, code and stack of 32 bits, protected mode, TF, 64 bits, virtual-8086 mode.
#: A fetch that faults here, outside of a run, would end the process.
FETCH: Final = 0b11 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14 | 1 << 15 | 1 << 17
#: Bits of EFLAGS that are part of the engine's flags: TF, IOPL, RF, VM, AC (Intel SDM vol. 1, 3.4.3).
EFLAGS_BITS: Final = 0x7_3100


class Variants:
    """The flags with which blocks whose instructions are hooked have been executed, by linear address."""

    def __init__(
        self,
        uc: Uc,
        flags: ctypes.c_uint32,
        eflags: ctypes.c_uint32,
        kept: tuple[ctypes.c_uint64, ctypes.c_int32],
    ) -> None:
        """Take the engine, and where its own record of the CPU has the flags that it keeps, and EFLAGS.

        `kept` is what the engine changes there when it looks an address up: CR2, and the exception in flight.
        """
        self.uc = uc
        self.flags = flags
        self.eflags = eflags
        self.kept = kept
        self.known: dict[int, set[int]] = {}
        # Of host code in the engine's buffer: where the first lies, where the last ends.
        self.begin, self.end = 1 << 64, 0

    def made(self, code: int, length: int) -> None:
        """Note where the host code of the block lies that was translated last."""
        self.begin, self.end = min(self.begin, code), code + length

    @property
    def room(self) -> int:
        """How many bytes of the engine's buffer are free.

        When it is full the engine empties it by a jump to its run loop, which outside of a run would end the process.
        """
        return TCG_BUFFER - max(0, self.end - self.begin)

    def note(self, address: int, flags: int, *, one_page: bool) -> None:
        """Note that the block at an address needs hooks, and flags with which it has been executed.

        Of one in two pages nothing is known: a fetch from the second one could fault, outside of a run.
        """
        if not one_page:
            self.known.pop(address, None)
            return
        if len(self.known) >= MOST_BLOCKS:
            self.known.clear()
        found = self.known.setdefault(address, set())
        if len(found) >= MOST_FLAGS:
            found.clear()
        found.add(flags)

    def translate(self, address: int, but: int) -> None:
        """Have the engine translate a block for all flags that are known, without those of `but`, which come next.

        The code is that of the present address space, can be executed there with the flags of `but`, and lies in one
        page; the engine must not be running.
        """
        if self.room < ROOM:
            return
        kept = self.flags.value, self.eflags.value
        with self._looking_up():
            for flags in sorted(self.known.get(address, set()) - {but}):
                if (flags ^ but) & FETCH:
                    continue
                self.flags.value = flags & ~EFLAGS_BITS
                self.eflags.value = kept[1] & ~EFLAGS_BITS | flags & EFLAGS_BITS
                self.uc.ctl_request_cache(address)
        self.flags.value, self.eflags.value = kept

    def drop(self, address: int) -> None:
        """Have the engine forget the translations of the code at an address of the present address space."""
        with self._looking_up():
            self.uc.ctl_remove_cache(address, address + 1)

    @contextmanager
    def _looking_up(self) -> Iterator[None]:
        """Put back what the engine changes when it looks an address up, which need not be mapped any longer."""
        before = [value.value for value in self.kept]
        with suppress(UcError):
            yield
        for value, old in zip(self.kept, before, strict=True):
            value.value = old

    def forget(self) -> None:
        """All translations are gone."""
        self.known.clear()
