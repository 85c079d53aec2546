"""A state from which a machine runs short code again and again, as a test of a routine does for each of its cases.

Restoring a snapshot looks at everything, and a run at all that may happen on the way: each takes longer than a few
instructions.  Where nothing but instructions has been executed since, only memory, registers and counters of
instructions differ from the snapshot.  `Beginning.run` puts these back, and runs to the end or gives up: what is out of
the ordinary is then to be done again, in the ordinary way, by `Beginning.restore` and `Machine.run`.

The ledger knows whether there was anything else (`Ledger.plain_since`): a port, an exception, an interrupt.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.memory import PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.machine.cpu.cpu import EFLAGS_FIXED, GENERAL
from callgate.kernel.machine.engine.counter_state import NOWHERE
from callgate.kernel.machine.memory.page_map import WORDS_OF_RUN
from callgate.kernel.machine.memory.ram import FEW
from callgate.kernel.machine.snapshot import Frozen, check_restorable, give_back, take

if TYPE_CHECKING:
    from callgate.kernel.machine.parts import Parts

SHORT: Final = 20_000  # instructions: a longer run is not worth the attempt, which may have to be done again
CONTROL_REGISTERS: Final = 5
Stores = tuple[tuple[slice, bytes], ...]  # of low memory: where, and what


class Beginning:
    """The machine as it stands when this is made; `restore` goes back to it."""

    def __init__(self, machine: Parts, tables: Iterable[int]) -> None:
        """Take a snapshot.  `tables` are the numbers of the physical pages that hold the page tables.

        ValueError for a machine with memory above 4 GiB, or with devices that have registers in memory.
        """
        if len(machine.ram.regions) > 1 or any(device.mmio for device in machine.devices.values()):
            raise ValueError("only a machine of low memory and ports can begin again")
        self.machine = machine
        self.snapshot = take(machine, None)
        assert isinstance(self.snapshot.memory, Frozen)
        self.backing = self.snapshot.memory.backings[0]
        self.region = machine.ram.regions[0]
        self.tables = frozenset(tables)
        self.taken = 0  # how often bytes for the console were taken from the host code that gathers them
        self.begun: set[int] = set()  # offsets in CS whose code was looked at since `news`
        self.news = -1
        self.written: list[int] = []  # what the host has said of written pages: three words for each run of them
        self.pages: frozenset[int] = frozenset()  # their numbers
        self.contents: Stores = ()  # what they are to hold
        self.remaps = True  # the engine's cache of page tables may hold others than the snapshot's
        layout = machine.cpu.layout
        self.first, self.eip = layout.registers >> 2, layout.eip >> 2
        self.control = slice(layout.control, layout.control + 8 * CONTROL_REGISTERS)
        self.efer = layout.efer >> 3
        words = memoryview(self.snapshot.cpu)
        self.counters = list(zip(machine.ledger.counted, self.snapshot.ledger[0], strict=True))
        self.control_registers = words[self.control], words.cast("Q")[self.efer]
        self.count = int(machine.state.count)
        self.plain_flags = words.cast("I")[layout.eflags >> 2] == EFLAGS_FIXED

    def restore(self) -> None:
        """Go back by restoring the snapshot, whatever has happened."""
        check_restorable(self.machine, self.snapshot)
        give_back(self.machine, self.snapshot)
        self.machine.ledger.plain_since = self
        buffer = self.machine.console_buffer
        self.taken = 0 if buffer is None else buffer.taken
        self.remaps = True

    def run(self, general: array[int], eflags: int, eip: int, stores: Stores, request: tuple[str, None]) -> bool:
        """Go back, set registers and memory, and run until a probe makes a request; False if anything else happens.

        `general` are the general registers in the order of their numbers, `eip` is an offset in CS.  The machine then
        stands at the end of the run, its registers in `cpu.peek`.  After False it stands anywhere: `restore` it.
        The caller vouches that no Python code but the probe's has used the machine since `restore`.
        """
        machine = self.machine
        if not self._rewind():
            machine.ledger.plain_since = None
            return False
        cpu, view, code = machine.cpu, self.region.view, machine.translations.pages
        for place, data in stores:
            if not code.isdisjoint(range(place.start >> PAGE_SHIFT, (place.stop - 1 >> PAGE_SHIFT) + 1)):
                return False
            view[place] = data
        words = cpu.words
        cpu.context.view[:] = self.snapshot.cpu
        words[self.first : self.first + 2 * len(GENERAL) : 2] = general
        words[self.eip] = eip
        cpu.context.restore()
        if eflags != EFLAGS_FIXED or not self.plain_flags:
            cpu.eflags = eflags
        if self._execute(eip) or machine.control.request != request or not self._ended():
            machine.ledger.plain_since = None
            return False
        cpu.peek.save()
        peek, (control_registers, efer) = cpu.peek, self.control_registers
        self.remaps = peek.view[self.control] != control_registers or peek.quads[self.efer] != efer
        return True

    def general(self) -> list[int]:
        """Return the general registers at the end of the run, in the order of their numbers."""
        return self.machine.cpu.peek.words[self.first : self.first + 2 * len(GENERAL) : 2].tolist()

    def retired(self) -> int:
        """Return how many instructions have retired in the run."""
        return int(self.machine.state.count) - self.count

    def _rewind(self) -> bool:
        """Put memory and counters back; False if more than these may differ."""
        machine, region = self.machine, self.region
        translations, buffer = machine.translations, machine.console_buffer
        if (
            not self._ended()
            or (buffer is not None and (buffer.state.used or buffer.taken != self.taken))
            or region.backing is not self.backing
            or not self._give_contents()
        ):
            return False
        if self.remaps or not self.pages.isdisjoint(self.tables):
            translations.flush_tlb()
            self.remaps = True
        for counters, values in self.counters:
            counters[:] = values
        machine.counter.restored()
        moment = self.snapshot.moment
        machine.cpu.halted, machine.traps.returns.wanted = moment.halted, moment.returning
        machine.traps.refusal = machine.filters.floating.later = None
        return True

    def _ended(self) -> bool:
        """Whether there was nothing but instructions, and nothing is left to be done."""
        machine, translations = self.machine, self.machine.translations
        plain = machine.ledger.plain_since is self
        return plain and not (machine.control.interrupted or translations.stale or translations.all_stale)

    def _give_contents(self) -> bool:
        """Give pages that were written their content.

        False if the host cannot say which they are, if they are many, or if code has changed that was translated.
        """
        page_map, view, code = self.region.page_map, self.region.view, self.machine.translations.pages
        try:
            count = page_map.scan_copies()
        except OSError:
            return False
        written = page_map.words[: WORDS_OF_RUN * count].tolist()
        if written != self.written:
            self._learn(written)
        if len(self.contents) * PAGE_SIZE > FEW:
            return False
        mixed = not self.pages.isdisjoint(code)
        for place, page in self.contents:
            if mixed and place.start >> PAGE_SHIFT in code and bytes(view[place]) != page:
                return False
            view[place] = page
        return True

    def _learn(self, written: list[int]) -> None:
        """Keep what has to be written to the pages that the host says were written."""
        address, page = self.region.address, self.backing.page
        runs = zip(written[::WORDS_OF_RUN], written[1::WORDS_OF_RUN], strict=True)
        offsets = [place - address for start, end in runs for place in range(start, end, PAGE_SIZE)]
        if len(offsets) * PAGE_SIZE <= FEW:
            self.contents = tuple((slice(offset, offset + PAGE_SIZE), page(offset)) for offset in offsets)
        else:
            self.contents = ((slice(0), b""),) * len(offsets)
        self.pages = frozenset(offset >> PAGE_SHIFT for offset in offsets)
        self.written = written

    def _execute(self, eip: int) -> int:
        """Run the engine; return its status, which is not 0 if it has failed."""
        machine, state, control, traps = self.machine, self.machine.state, self.machine.control, self.machine.traps
        translations = machine.translations
        control.request = None
        traps.barren, traps.goal = 0, None
        state.armed = state.stopped = 0
        state.limit = state.hard_limit = state.count + SHORT
        state.last_address = NOWHERE
        if eip not in self.begun or translations.news != self.news:
            if translations.news != self.news:
                self.begun.clear()
                self.news = translations.news
            state.stop_address = NOWHERE
            translations.begin(eip)
            self.begun.add(eip)
        translations.filled = True
        machine.filters.floating.resume()
        control.running = True
        outer = traps.translator.guard(briefly=False)
        try:
            return machine.counter.execute(machine.handle) or not state.stopped
        finally:
            traps.translator.release(outer)
            control.running = False
