"""The exact clock by blocks.

The engine keeps two translations of the same code apart, by a bit of its flags that means nothing to it (`CLASS`).
In one, the counting hook is called before each instruction (`machine.engine.counter`).  In the other it is called
nowhere, and a hook at the entry of a block counts all its instructions at once.  A slice of the run chooses.

That is exact because nothing looks in between.  A block is *plain* if it holds no site, no port and nothing else that
calls Python; it is found out when the block is entered for the first time, which also searches it for suspects
(`machine.filters`).  In a block that is not plain each instruction is hooked in either translation.  What may still
end a plain block early is an exception, an access to a device, and a store into its own code:

* At an exception EIP is exact, so `left` takes back what comes after it.
* A device is not asked from within a plain block: the instruction is broken off without effect, and its block is
  translated again with hooks.
* The engine translates the rest of a block that has changed itself beginning with a block of one instruction, which
  is marked in its record (`machine.blocks.translated`): `_restarted` takes back what follows.

Where the limit falls into a block, the slice ends before it, and the next one counts by instruction.  So do the first
instructions of a machine (`machine.blocks.patient`); steps; an interrupt that waits for IF, hooks on memory or on each
instruction (`CounterState.watched`), and paging without EFER.NXE, where a fetch fault cannot be told from a load.

What the hook knows about a block is kept in the block's own host code, in the immediate operand that is the hook's
third argument.  So it is dropped whenever the translation is.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.machine.blocks.accesses import Accesses, Engine
from callgate.kernel.machine.blocks.block_code import ASKS, HOOKED, KNOWN, LENGTH, SHAPE_SHIFT
from callgate.kernel.machine.blocks.known_engine import (
    BLOCK_HOOK,
    CLASS,
    EVERYWHERE,
    NOWHERE_AT_ALL,
    blocks_are_known,
    hook_blocks,
    range_of,
)
from callgate.kernel.machine.blocks.plain import PlainBlocks
from callgate.kernel.machine.blocks.shapes import Shape, contents
from callgate.kernel.machine.blocks.translated import Translated, find
from callgate.kernel.machine.blocks.variants import Variants
from callgate.kernel.machine.cpu.cpu import EFLAGS_RF
from callgate.kernel.machine.engine.context import HF_CS32
from callgate.kernel.machine.engine.counter import NativeCounter, address_of, start
from callgate.kernel.machine.engine.counter_state import FILE_BYTES, NOWHERE, put_flags_back
from callgate.kernel.machine.engine.untranslatable import rescue
from unicorn.unicorn_py3.unicorn import uclib

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.translations import Translations

FEWEST: Final = 48  # instructions for which going by blocks is worth while
WHILE: Final = 64  # instructions that go one by one where blocks cannot
TOUCHING: Final = 1 << 12  # addresses of instructions that have touched devices, kept at a time


class NoBlocks(OSError):
    """This host's engine does not make blocks as this module expects."""


class BlockCounter(NativeCounter):
    """The clock by blocks, and by instruction where that is needed."""

    def __init__(self, native: NativeCounter, fail: Callable[[BaseException], None]) -> None:
        """Go on where the clock by instruction of an engine stands; exceptions go to `fail`.

        NoBlocks if the engine's own record of the CPU is not found, or it does not make blocks as expected.
        """
        if rescue() is None or not blocks_are_known():
            raise NoBlocks("this engine does not make blocks in the way that is known")
        self.uc, self.page, self.state, self.hook = native.uc, native.page, native.state, native.hook
        self.sites, self.repeats = native.sites, native.repeats
        self.fail = fail
        self.patience = 0  # instructions still to be executed one by one
        self.ready = False  # blocks are hooked
        self.fast = False  # which translation executes
        self.held = False  # Python has asked for the stop before a block
        self.again = 0  # the block at EIP is to be translated with hooks, for these flags
        self.alike = False  # and for others as well
        self.slowly = range(0)  # counts at which instructions are counted one by one
        self.no_execute = False  # EFER.NXE
        self.plain = PlainBlocks()
        self.touching: set[int] = set()
        self.repeated: tuple[int, int] | None = None  # an instruction that comes to a device again: count and address
        self.spoilt: int | None = None  # a block that was made while a device did not answer
        self.booked: list[int] = []  # bytes of files counted up to then

    def connect(self, cpu: Cpu, translations: Translations) -> None:
        """Take the parts of the machine that are made after the clock."""
        self.cpu, self.translations = cpu, translations

    def _prepare(self) -> None:
        """Have blocks hooked, those that exist as well: they are forgotten."""
        self.ready = True
        found, layout, translations = rescue(), self.cpu.layout, self.translations
        assert found is not None
        engine = found.cpu(ctypes.c_void_p(self.uc))
        begins = engine + found.offset
        self.flags = ctypes.c_uint32.from_address(begins + layout.hflags - layout.registers)
        eflags = ctypes.c_uint32.from_address(begins + layout.eflags - layout.registers)
        self.cr2 = ctypes.c_uint64.from_address(begins + layout.cr2 - layout.registers)
        self.in_flight = ctypes.c_int32.from_address(begins + layout.old_exception - layout.registers)
        self.variants = Variants(self.cpu.uc, self.flags, eflags, (self.cr2, self.in_flight))
        self.range = range_of(self.hook)
        self.callback = BLOCK_HOOK(self._asked)
        self.state.block_call = address_of(self.callback)
        self.accesses = Accesses(self.state, Engine(self.uc, engine), translations.paging.ram.regions, self.fail)
        hook_blocks(self.uc, self.state)
        translations.edges = False
        translations.flushed = self._flushed
        self.sites.added = self._site_added
        translations.flush_code()

    # Running.

    def execute(self, handle: object) -> int:
        """Run the engine from EIP until it stops; return its status."""
        begun = int(self.state.count)
        fast = self._worth_while()
        if fast and not self.ready:
            self._prepare()
        if not self.ready:
            status = start(handle, self.cpu.eip)
            self.patience -= int(self.state.count) - begun
            return status
        self._choose(fast=fast)
        try:
            while True:
                status = start(handle, self.cpu.eip)
                self._returned()
                if not self.again:
                    return status
                flags, self.again = self.again, 0
                if not self.state.limit:  # something else has to be done first
                    return status
                address = int(self.state.stop_address)
                self.variants.drop(address)
                self.state.stopped = 0
                self.range[:] = EVERYWHERE
                if self.alike:
                    self.variants.translate(address, flags)
        finally:
            if not self.fast:
                self.patience -= int(self.state.count) - begun
            self._choose(fast=False)

    def _worth_while(self) -> bool:
        state = self.state
        count = state.count
        if state.watched or state.armed or state.limit < count + FEWEST:
            return False
        until = max(self.slowly.stop if count in self.slowly else 0, count + self.patience)
        if count < until:
            state.limit = state.hard_limit = min(state.limit, until)
            return False
        mode = self.cpu.paging_mode()
        if mode.no_execute != self.no_execute:  # blocks that turn paging on were judged by it
            self.no_execute = mode.no_execute
            self.translations.flush_code()
        return not mode.paging or mode.no_execute

    def _choose(self, *, fast: bool) -> None:
        """Choose the translation that executes from now on."""
        self.fast = fast
        flags = self.flags.value
        self.flags.value = flags | CLASS if fast else flags & ~CLASS
        self.range[:] = NOWHERE_AT_ALL if fast else EVERYWHERE

    def _returned(self) -> None:
        """The engine has stopped: before a block, at HLT, or at an access to a device."""
        state = self.state
        if state.aborted:
            state.aborted = 0
            if self.spoilt is None:
                self._touched()
            else:
                self.variants.drop(self.spoilt)
                self.spoilt = None
                self._go_slowly(int(state.count) + 1)
        elif self.fast and state.stopped and not self.held and 0 < state.limit > state.count:
            self._go_slowly(int(state.limit))  # which falls into the block
        self.held = False
        self.left(None)

    def _touched(self) -> None:
        """An instruction of a plain block has come to a device: it has had no effect, and is to be hooked."""
        state = self.state
        linear = self._linear()
        block = int(state.block_address)
        self.left(linear, attempted=False)
        self.repeated = int(state.count) + 1, linear
        if len(self.touching) >= TOUCHING:
            self.touching.clear()
        self.touching.add(linear)
        self.variants.drop(block)
        state.stopped, state.stop_address = 1, linear
        self._go_slowly(int(state.count) + 1)

    def _go_slowly(self, until: int) -> None:
        """Count by instruction from here on, up to a count."""
        self.slowly = range(int(self.state.count), until)

    def restored(self) -> None:
        """The machine stands elsewhere: what was to come next does not."""
        self.slowly = range(0)
        self.repeated = None

    def _linear(self) -> int:
        return int(self.cpu.eip + self.cpu.segment_base("cs") & 0xFFFF_FFFF)

    # Within a run.

    def left(self, linear: int | None, *, attempted: bool = True) -> None:
        """The plain block that executes, if one does, has ended: after its last instruction, or at a linear address.

        Then the instruction there has been attempted, which counts until it is uncounted, or not even that.
        """
        state = self.state
        word = int(state.block_word)
        state.block_word = 0
        length = word & LENGTH
        if not length:
            return
        shape, begin = self.plain.shapes[(word & ~(KNOWN | ASKS)) >> SHAPE_SHIFT], int(state.block_address)
        if linear is None or linear - begin not in shape:
            state.last_address = begin + shape[-1]
            return
        done = shape.index(linear - begin) + attempted
        state.count -= length - done
        state.stored_at = NOWHERE  # a later instruction comes to the count that the block's stores were noted under
        state.quadrants[begin >> 30 & 3] -= length - done
        if attempted:
            state.last_address = linear
        elif done:
            state.last_address = begin + shape[done - 1]

    def refuses(self) -> bool:
        """Whether a device is not to be asked, since the instruction will be executed again with hooks."""
        state = self.state
        if not state.block_word & LENGTH and not (self.fast and state.last_address != self._linear()):
            if self.repeated is not None:
                self._take_back()
            return False
        if not state.aborted:
            state.aborted = 1
            self.booked = self._file_bytes()
            self.kept_cr2 = self.cr2.value
            uclib.uc_emu_stop(ctypes.c_void_p(self.uc))
        return True

    def _file_bytes(self) -> list[int]:
        return [int(getattr(self.state, name)) for name in FILE_BYTES]

    def _take_back(self) -> None:
        """An instruction comes to a device again: what it has loaded above 4 GiB before that has been counted twice."""
        again, self.repeated = self.repeated, None
        if again == (self.state.count, self.state.last_address):
            for name, booked in zip(FILE_BYTES, self.booked, strict=True):
                setattr(self.state, name, booked)

    def broken_off(self) -> bool:
        """Whether an exception is of no account: a device was asked for an entry of a page table, and has not answered.

        The instruction will be executed again.
        """
        if not self.state.aborted:
            return False
        self.in_flight.value = -1
        self.cr2.value = self.kept_cr2
        return True

    def _asked(self, _uc: int, address: int, size: int, back: int) -> int:
        """A block is entered that has to be looked at; return its word, 0 to stop before it."""
        try:
            if size & KNOWN:
                self._restarted(address)
                return size & ~ASKS
            word = self._look(address, size, find(back, address, size))
            if not word:
                self._stop(address)
            return word & ~ASKS
        except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
            self.fail(error)
            self._stop(address)
            return 0

    def _stop(self, address: int) -> None:
        self.held = True
        self.state.stopped = 1
        self.state.stop_address = address
        uclib.uc_emu_stop(ctypes.c_void_p(self.uc))

    def _look(self, address: int, size: int, block: Translated | None) -> int:
        """Look at a new block; return its word."""
        if block is None or bool(block.flags & CLASS) != self.fast:
            raise RuntimeError(f"the engine's record of the block at {address:#x} is not what was expected")
        self.accesses.translated(block)
        self.variants.placed(block)
        if block.restarts:
            self._restarted(address)
        else:
            self.left(None)
        if not self.fast:
            self.translations.note_block(address, size, block.pages)
            block.put_word(HOOKED | (ASKS if block.restarts else 0))
            return HOOKED
        if self.state.aborted:  # it was read from a device, which has not answered
            self.spoilt = address
            return 0
        word = 0 if block.once else self._classify(address, size, block)
        if word:
            block.put_word(word)
        elif not self.again:
            self._go_slowly(int(self.state.count) + WHILE)
        return word

    def _classify(self, address: int, size: int, block: Translated) -> int:
        """Return the word of a new block in the translation by blocks; 0 if it cannot be executed in that."""
        code, pages = self.translations.note_block(address, size, block.pages)
        if self.range[0] == EVERYWHERE[0]:  # this one was to be made with hooks
            self.variants.made(block)
            self.range[:] = NOWHERE_AT_ALL
            hooked = block.calls(self.page.count) == block.instructions
            return HOOKED if hooked and not block.restarts else 0
        if address in self.variants.known and block.calls(self.page.count) == block.instructions:
            return 0 if block.restarts else HOOKED  # made together with the one for other flags
        found = contents(code, block.instructions)
        if not block.flags & HF_CS32 or address >> 30 != address + size - 1 >> 30:
            return 0
        if found.writes_msr or (found.turns_paging and not self.no_execute):
            return 0
        plain = found.plain and not (found.tests_bits and address < KERNEL_BASE)  # the kernel uses CF only
        plain = plain and not block.flags & EFLAGS_RF  # which the counting hook ends
        if found.shape is None or not plain or self._watched(address, code, found.shape):
            if not block.restarts:
                self.again = block.flags
                self.alike = self.variants.alike(code, block)
                if self.alike:
                    self.variants.note(address, block.flags)
            return 0
        number = self.plain.number(found.shape)
        if number is None:
            self.translations.flush_code_soon()
            return 0
        self.plain.note(address, size, pages)
        self.accesses.lead(block)
        return KNOWN | (ASKS if block.restarts else 0) | number << SHAPE_SHIFT | len(found.shape)

    def _watched(self, address: int, code: bytes, shape: Shape) -> bool:
        """Whether there is a site in a block, or an instruction that has touched a device."""
        holds = self.sites.holds
        if self.sites.any(address, len(code)) and any(holds(address + offset) for offset in shape):
            return True
        return bool(self.touching) and any(address + offset in self.touching for offset in shape)

    def _restarted(self, address: int) -> None:
        """The block that has executed last was broken off before the instruction here, which now comes again."""
        state = self.state
        if state.block_word & LENGTH:
            self.left(address, attempted=False)
        elif state.last_address == address:
            put_flags_back(state)
            state.count -= 1
            state.quadrants[address >> 30 & 3] -= 1
        state.last_address = NOWHERE

    # What makes plain blocks others.

    def _flushed(self) -> None:
        """All translations are gone."""
        self.plain.forget()
        self.accesses.forget()
        self.variants.forget()

    def _site_added(self, address: int) -> None:
        """A site is new: plain blocks that hold its address are translated again."""
        pages = self.plain.without(address)
        if pages:
            self.translations.stale |= pages
            self.translations.control.stop_soon()
