"""The translations of one block for different flags of the engine.

The engine keeps a translation of the same code for each value of its flags: the privilege level, whether a segment has
a base, IOPL, AC, RF.  It forgets all of them when one is to be made anew, with hooks.  So when one is, the others that
are known are made at once as well; or two that are executed by turns would forget each other each time.

That happens outside of a run, where the translator has no run loop to jump to: if code could not be fetched there, the
buffer of translations were full, or it gave up, the process would end (docs/emulator-notes.md, "Translated code").  So
it is done only where another translation of the very same instructions has just succeeded, and where there is room.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from callgate.kernel.machine.blocks.translated import Translated
from callgate.kernel.machine.cpu.translations import CUT, CUT_EARLY, LARGE
from callgate.kernel.machine.engine.new_engine import TCG_BUFFER
from unicorn import Uc, UcError

MOST_BLOCKS: Final = 1 << 12  # of which variants are known; beyond it all are forgotten
MOST_FLAGS: Final = 8  # variants of a block
#: The flags that do not decide where a block ends, nor whether it can be fetched: whether a segment has a base, RF, AC.
#: Those that do are all others: a block is cut after one instruction (TF; after MOV SS and STI), or ends at one that is
#: refused (IOPL, TS, the privilege level).
ALIKE: Final = 1 << 6 | 1 << 16 | 1 << 18
LARGEST: Final = 1 << 17  # bytes of a block's host code (64 KiB at most) with the engine's record of it
ROOM: Final = (MOST_FLAGS + 1) * LARGEST  # bytes of the buffer that have to be free
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
        self.lowest = 1 << 64  # address of host code: where the buffer begins, or after it
        self.newest = 0  # where the host code made last ends, or before it

    def placed(self, block: Translated) -> None:
        """Note where the host code of a block lies that is entered for the first time, though it may be an old one."""
        if block.code < self.lowest:
            self.lowest = block.code
        if block.code + block.length > self.newest:
            self.newest = block.code + block.length

    def made(self, block: Translated) -> None:
        """Note where the host code of a block lies that has just been translated: the buffer may have been emptied."""
        self.newest = block.code + block.length

    def note(self, address: int, flags: int) -> None:
        """Note that the block at an address needs hooks, and flags with which it has been executed."""
        if len(self.known) >= MOST_BLOCKS:
            self.known.clear()
        found = self.known.setdefault(address, set())
        if len(found) >= MOST_FLAGS:
            found.clear()
        found.add(flags)

    def alike(self, code: bytes, block: Translated) -> bool:
        """Whether a block with this code has the same instructions for all flags that differ from its own by `ALIKE`.

        That is one in one page that has come to its end: none that was cut where the engine's buffers were full.
        """
        return len(block.pages) == 1 and not block.limit and weight(code, block.instructions) < CUT

    def translate(self, address: int, but: int) -> None:
        """Have the engine translate a block for all flags that are known, without those of `but`, which come next.

        The block has just been found by the engine with the flags of `but`, and is `alike`; the engine must not be
        running.
        """
        wanted = [flags for flags in sorted(self.known.get(address, ())) if flags != but and not (flags ^ but) & ~ALIKE]
        if not wanted or self.newest + ROOM > self.lowest + TCG_BUFFER:
            return
        kept = self.flags.value, self.eflags.value
        try:
            with self._looking_up():
                for flags in wanted:
                    self.flags.value = flags & ~EFLAGS_BITS
                    self.eflags.value = kept[1] & ~EFLAGS_BITS | flags & EFLAGS_BITS
                    self.uc.ctl_request_cache(address)
        finally:  # Ctrl-C may come here
            self.flags.value, self.eflags.value = kept

    def drop(self, address: int) -> None:
        """Have the engine forget the translations of the code at an address of the present address space."""
        with self._looking_up():
            self.uc.ctl_remove_cache(address, address + 1)

    @contextmanager
    def _looking_up(self) -> Iterator[None]:
        """Put back what the engine changes when it looks an address up, which need not be mapped any longer."""
        before = [value.value for value in self.kept]
        try:
            with suppress(UcError):
                yield
        finally:
            for value, old in zip(self.kept, before, strict=True):
                value.value = old

    def forget(self) -> None:
        """All translations are gone."""
        self.known.clear()


def weight(code: bytes, instructions: int) -> int:
    """Return how many instructions a block counts as, of which the engine takes `CUT` without cutting it.

    Any byte of PUSHA, POPA or ENTER counts as one of those, `CUT_EARLY` of which may be cut.
    """
    return instructions + sum(map(code.count, LARGE)) * (CUT // CUT_EARLY - 1)
