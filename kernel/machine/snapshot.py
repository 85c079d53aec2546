"""Snapshots: the whole machine as it stood at a quiescent point, to go back to any number of times.

RAM is a private mapping of a memory file.  A snapshot writes the pages in use to a new file and maps that; restoring is
giving the pages written since their content (`Region.drop`), or mapping the file once more.  The rest is registers and
plain data.
Translated code survives as long as the pages it came from are the same in the snapshot, which is what makes hundreds of
restored tests a second possible.

Where many snapshots of one run are kept, their memory is a moment of `PageVersions` instead of a file of its own.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from callgate.kernel.abi.memory import PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.machine.engine.counter_state import NOWHERE
from callgate.kernel.machine.memory.accounts import Account

if TYPE_CHECKING:
    from callgate.kernel.machine.engine.clock import Scheduled
    from callgate.kernel.machine.memory.page_versions import PageVersions
    from callgate.kernel.machine.memory.ram import Backing, Ram, Region
    from callgate.kernel.machine.observation.stop import Occurrence
    from callgate.kernel.machine.parts import Parts


BY_MACHINE: Final = Account.MACHINE


class NotQuiescent(RuntimeError):
    """The machine is in the middle of something that a snapshot cannot hold."""


class Memory(Protocol):
    """The memory of a snapshot."""

    @property
    def stored(self) -> int:
        """Bytes that it takes."""
        ...

    def put_back(self, code: set[int]) -> set[int]:
        """Give RAM the content that was kept; return which of these pages, by number, were different until now."""
        ...


Keep = Callable[[], Memory]


class Frozen:
    """All of RAM, in files of its own."""

    def __init__(self, ram: Ram) -> None:
        self.backings = [region.freeze() for region in ram.regions]
        self.regions = list(zip(ram.regions, self.backings, strict=True))
        self.stored = sum(backing.stored for backing in self.backings)

    def put_back(self, code: set[int]) -> set[int]:
        """Map the files.  Where all are mapped already, only pages that were written are given their content."""
        for region, backing in self.regions:
            if region.backing is not backing or not region.page_map.quick:
                return self._map_again(code)
        stale: set[int] = set()
        for region, backing in self.regions:
            runs = region.written()
            if runs:
                pages = code.intersection(pages_of(region, runs))
                if pages:
                    stale |= self._stale(region, backing, pages)
                region.drop(runs)
        return stale

    def _map_again(self, code: set[int]) -> set[int]:
        stale: set[int] = set()
        for region, backing in self.regions:
            everywhere = range(region.base >> PAGE_SHIFT, region.base + region.size >> PAGE_SHIFT)
            stale |= self._stale(region, backing, {page for page in code if page in everywhere})
            region.rebase(backing)
        return stale

    def _stale(self, region: Region, backing: Backing, pages: set[int]) -> set[int]:
        """Return those of some pages that differ from the file."""
        view, base = region.view, region.base
        offsets = [(page << PAGE_SHIFT) - base for page in pages]
        return {
            base + offset >> PAGE_SHIFT
            for offset in offsets
            if bytes(view[offset : offset + PAGE_SIZE]) != backing.page(offset)
        }


def pages_of(region: Region, runs: list[tuple[int, int]]) -> Iterator[int]:
    """Yield the numbers of the pages of runs of a region."""
    for start, end in runs:
        yield from range(region.base + start >> PAGE_SHIFT, region.base + end >> PAGE_SHIFT)


class Version:
    """What RAM holds at a moment of `PageVersions`."""

    def __init__(self, versions: PageVersions, key: object) -> None:
        self.versions = versions
        self.key = key

    @property
    def stored(self) -> int:
        """Bytes of the pages that differ from the moment before."""
        return len(self.versions.changed_at(self.key)) * PAGE_SIZE

    def put_back(self, code: set[int]) -> set[int]:
        """Write the pages that differ."""
        versions, key = self.versions, self.key
        read = versions.ram.read
        candidates = code & {physical >> PAGE_SHIFT for physical in versions.differing(key)}
        stale = {
            page
            for page in candidates
            if read(page << PAGE_SHIFT, PAGE_SIZE, BY_MACHINE) != versions.page(key, page << PAGE_SHIFT)
        }
        versions.go(key)
        return stale


FIXED: Final = frozenset({tuple, int, bool, str, bytes, type(None)})


class Pickled(bytes):
    """A copy of plain data that could be changed."""


def unchanging(state: object) -> object:
    """Return plain data as nothing changes it any longer: itself if it is of `FIXED` and can be hashed, else a copy."""
    try:
        hash(state)
    except TypeError:
        return Pickled(pickle.dumps(state))
    return state if type(state) in FIXED else Pickled(pickle.dumps(state))


def all_unchanging(states: dict[str, object]) -> dict[str, object]:
    """Return `unchanging` states; as a rule all are, which is found at one look."""
    values = (*states.values(),)
    try:
        hash(values)
    except TypeError:
        pass
    else:
        if FIXED.issuperset(map(type, values)):
            return states
    return {name: unchanging(state) for name, state in states.items()}


class Moment(NamedTuple):
    """Where the run is, and what is to come."""

    events: tuple[list[Scheduled], set[int], int]
    idle: int
    recent: tuple[Occurrence, ...]
    deliveries: tuple[int, int, int]
    halted: tuple[int, int] | None
    returning: int | None


class Snapshot(NamedTuple):
    """A machine's state; belongs to the machine that made it."""

    owner: int
    memory: Memory
    cpu: bytes
    ledger: tuple[Any, ...]
    devices: dict[str, object]  # `unchanging` states by name
    others: dict[str, object]  # likewise, of other participants
    moment: Moment
    clock: int

    def restore(self, machine: Parts) -> None:
        """Go back to it; errors as `check_restorable`."""
        check_restorable(machine, self)
        give_back(machine, self)

    def __repr__(self) -> str:
        return f"<snapshot at {self.clock} ns, {self.memory.stored >> 10} KiB of memory>"


def take(machine: Parts, keep: Keep | None = None) -> Snapshot:
    """Return a snapshot; NotQuiescent names what is under way, StaleView if a view of high memory is held.

    `keep` keeps the memory in another way.
    """
    check(machine)
    lent = machine.ram.lent
    if lent.marks[-1:] == b"\1" or len(lent.lent) > 1:
        lent.check()
    machine.serial.flush()
    devices = all_unchanging({name: device.save() for name, device in machine.devices.items()})
    others = all_unchanging({name: save() for name, (save, _) in machine.participants.items()})
    traps = machine.traps
    moment = Moment(
        machine.events.save(),
        machine.clock.idle,
        tuple(traps.recent),
        traps.deliveries.save(),
        machine.cpu.halted,
        traps.returns.wanted,
    )
    machine.cpu.save()
    cpu, ledger, clock = bytes(machine.cpu.context.view), machine.ledger.save(), machine.clock.now
    memory = Frozen(machine.ram) if keep is None else keep()  # last, for what it does to the CPU's caches
    return Snapshot(id(machine), memory, cpu, ledger, devices, others, moment, clock)


def give_back(machine: Parts, snapshot: Snapshot) -> None:
    """Go back to a snapshot that can be restored."""
    machine.control.clear()
    machine.ledger.plain_since = None
    machine.counter.restored()
    machine.state.stop_address = NOWHERE
    machine.traps.refusal = machine.filters.floating.later = None
    stale = snapshot.memory.put_back(machine.translations.pages)
    machine.cpu.context.restore_copy(snapshot.cpu)
    if machine.translations.filled:
        machine.translations.flush_tlb()
    machine.ledger.load(snapshot.ledger)
    if stale:
        machine.translations.forget(stale)
    for name, state in snapshot.devices.items():
        machine.devices[name].load(state if type(state) is not Pickled else pickle.loads(state))  # noqa: S301 - of `take`
    moment, traps = snapshot.moment, machine.traps
    machine.events.load(moment.events)
    machine.clock.idle, machine.cpu.halted = moment.idle, moment.halted
    traps.returns.wanted = moment.returning
    traps.deliveries.load(moment.deliveries)
    traps.recent.clear()
    traps.recent.extend(moment.recent)
    for name, (_, load) in machine.participants.items():
        state = snapshot.others[name]
        load(state if type(state) is not Pickled else pickle.loads(state))  # noqa: S301 - likewise


def check_restorable(machine: Parts, snapshot: Snapshot) -> None:
    """Raise ValueError if a snapshot is another machine's, NotQuiescent if this one runs or is closed.

    StaleView if a view of high memory is held.
    """
    if snapshot.owner != id(machine):
        raise ValueError("a snapshot can be restored only by the machine that took it")
    if machine.control.running or machine.handle is None:
        raise NotQuiescent("the machine is running" if machine.handle else "the machine is closed")
    lent = machine.ram.lent
    if lent.marks[-1:] == b"\1" or len(lent.lent) > 1:  # before most tests no view can have been given out
        lent.check()


def check(machine: Parts) -> None:
    """Raise NotQuiescent if a snapshot cannot be taken now."""
    if machine.handle is None:
        raise NotQuiescent("the machine is closed")
    if machine.control.running:
        raise NotQuiescent("the machine is running")
    if machine.traps.refusal is not None:
        raise NotQuiescent("a refused instruction waits for its exception")
    reason = machine.quiescent()
    if reason is not None:
        raise NotQuiescent(reason)
