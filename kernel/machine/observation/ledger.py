"""The ledger: the costs of a run, counted exactly.

Instructions and ring changes come from the counting hook, sites (`mov cr3`, `invlpg`, stores to page
tables, gates) from hooks on their addresses, host calls from their dispatch, the rest from the code that causes it.  A
count of guest instructions is always shown with the host calls made, by name: work moved from x86 to Python must not
look like a speed-up.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final

from callgate.kernel.common.record import record
from callgate.kernel.machine.engine.counter_state import CounterState, count_for
from callgate.kernel.machine.engine.sites import POOL, Pool
from callgate.kernel.machine.memory.accounts import BYTE_ACCOUNTS, FILE_ACCOUNTS, Account
from callgate.kernel.machine.observation.turns import Turns

if TYPE_CHECKING:
    from callgate.kernel.machine.engine.sites import Cell

SITE_NAMES = (
    *("cr3_loads", "pte_writes", "tlb_invalidations", "server_gates", "client_gates", "requests"),
    *("fast_requests", "fast_replies"),  # that took the direct switch (asm/kernel/ipc/direct.asm)
    "batched_requests",  # that came in batches: each batch is one of `requests`
    "fast_handoffs",  # of the CPU from one thread to another, which policy is not asked for
    "fpu_switches",  # of the x87, MMX and SSE registers, from one thread to another
    "metadata_bytes",  # of locked blocks: the file systems' own structures
    "program_bytes",  # of files that policy reads to load them as programs
    "server_bytes",  # of hosted servers' own memory, which their Python reads and writes
    "inflated_bytes",  # that hosted servers have decompressed, whether or not they were used
)
FILE_KINDS = ("kernel", "server", "client")
WAITS = "blocking_waits"  # not a site of `Counts`, although machine code counts some
# Of `Counts`, beside the sites.
NOW = ("guest_instructions", "ring0", "ring3", "ring_changes", "host_call_count", WAITS)
WORD: Final = 8  # bytes
COUNTED = (  # fields of the counting hook's state that a snapshot keeps, the first and the last of several side by side
    *(("count", "count"), ("last_address", "user_kind"), ("site_done", "site_address")),
    *(("stored_at", "stored"), ("charged_at", "charged_at")),
)


@record(eq=True)
class Counts:
    """Values of every counter at one moment; `b - a` is the difference between two."""

    ring0: int = 0
    ring3: int = 0
    ring_changes: int = 0
    sites: dict[str, int] = field(default_factory=dict)
    host_calls: dict[str, int] = field(default_factory=dict)
    exceptions: dict[str, int] = field(default_factory=dict)
    interrupts: dict[str, int] = field(default_factory=dict)
    cpu_file_bytes: dict[str, int] = field(default_factory=dict)
    dma_bytes: dict[str, int] = field(default_factory=dict)
    blocking_waits: int = 0

    def __getattr__(self, name: str) -> int:
        """Return a site's count by its name: `counts.cr3_loads`."""
        if name in SITE_NAMES:
            return self.sites.get(name, 0)
        raise AttributeError(f"no counter {name!r}; sites are {', '.join(SITE_NAMES)}")

    def __repr__(self) -> str:
        return f"<counts {describe(self.as_dict()) or 'all zero'}>"

    @property
    def guest_instructions(self) -> int:
        """Retired guest instructions of both rings."""
        return self.ring0 + self.ring3

    @property
    def host_call_count(self) -> int:
        """Host calls of all names."""
        return sum(self.host_calls.values())

    def __sub__(self, earlier: Counts) -> Counts:
        return Counts(
            self.ring0 - earlier.ring0,
            self.ring3 - earlier.ring3,
            self.ring_changes - earlier.ring_changes,
            subtract(self.sites, earlier.sites),
            subtract(self.host_calls, earlier.host_calls),
            subtract(self.exceptions, earlier.exceptions),
            subtract(self.interrupts, earlier.interrupts),
            subtract(self.cpu_file_bytes, earlier.cpu_file_bytes),
            subtract(self.dma_bytes, earlier.dma_bytes),
            self.blocking_waits - earlier.blocking_waits,
        )

    def __add__(self, other: Counts) -> Counts:
        """Return the sum of two differences."""
        return Counts(
            self.ring0 + other.ring0,
            self.ring3 + other.ring3,
            self.ring_changes + other.ring_changes,
            add(self.sites, other.sites),
            add(self.host_calls, other.host_calls),
            add(self.exceptions, other.exceptions),
            add(self.interrupts, other.interrupts),
            add(self.cpu_file_bytes, other.cpu_file_bytes),
            add(self.dma_bytes, other.dma_bytes),
            self.blocking_waits + other.blocking_waits,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the keys that `--stats` and benchmarks write."""
        return {
            "guest_instructions": {"total": self.guest_instructions, "ring0": self.ring0, "ring3": self.ring3},
            "host_calls": dict(sorted(self.host_calls.items())),
            **{name: self.sites.get(name, 0) for name in SITE_NAMES},
            "ring_changes": self.ring_changes,
            "exceptions": dict(sorted(self.exceptions.items())),
            "interrupts": dict(sorted(self.interrupts.items())),
            "cpu_file_bytes": {kind: self.cpu_file_bytes.get(kind, 0) for kind in FILE_KINDS},
            "dma_bytes": {way: self.dma_bytes.get(way, 0) for way in ("read", "write")},
            "blocking_waits": self.blocking_waits,
        }


def subtract(later: dict[str, int], earlier: dict[str, int]) -> dict[str, int]:
    """Return the differences that are not zero, by name."""
    return {name: value - earlier.get(name, 0) for name, value in later.items() if value != earlier.get(name, 0)}


def add(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """Return the sums by name."""
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def describe(values: dict[str, Any]) -> str:
    """Return the nonzero values as `name=value`, counters by name in braces."""
    shown = []
    for name, value in values.items():
        if isinstance(value, dict):
            inner = describe(value)
            if inner:
                shown.append(f"{name}={{{inner}}}")
        elif value:
            shown.append(f"{name}={value}")
    return " ".join(shown)


def place(field_name: str) -> int:
    """Return which word of the counting hook's state a field is."""
    offset: int = getattr(CounterState, field_name).offset
    return offset // WORD


COUNT, RING_0, RING_CHANGES = place("count"), place("quadrants") + 3, place("ring_changes")
FILE_BYTES: Final = slice(place("file_bytes_kernel"), place("file_bytes_client") + 1)
UNUSED: Final = array("Q", bytes(8 * POOL))  # the counts of a pool that was made since


class Reading:
    """The counters at one moment, as they lie in memory."""

    __slots__ = ("counters", "ledger", "numbers", "pools")

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.numbers: list[int] = ledger.numbers.tolist()
        pools = ledger.pools
        self.pools: list[list[int]] = [pool.counts.tolist() for pool in pools] if pools else []
        self.counters: list[dict[Any, int]] = [*map(dict, ledger.counters)]

    @property
    def guest_instructions(self) -> int:
        """Retired guest instructions of both rings."""
        return self.numbers[COUNT]

    def counts(self) -> Counts:
        """Return the counters by name."""
        numbers, (extra, host_calls, exceptions, interrupts, dma_bytes, touched) = self.numbers, self.counters
        ring0 = numbers[RING_0]
        sites = {name: self._cells(name) for name in self.ledger.cells}
        for name, count in extra.items():
            sites[name] = sites.get(name, 0) + count
        for name, account in BYTE_ACCOUNTS.items():
            sites[name] = sites.get(name, 0) + touched.get(account, 0)
        waits = sites.pop(WAITS, 0)
        by_cpu = dict(zip(FILE_KINDS, numbers[FILE_BYTES], strict=True))
        for kind, account in FILE_ACCOUNTS.items():
            by_cpu[kind] += touched.get(account, 0)
        own = dict(host_calls), dict(exceptions), dict(interrupts)
        changes = numbers[RING_CHANGES]
        return Counts(ring0, numbers[COUNT] - ring0, changes, sites, *own, by_cpu, dict(dma_bytes), waits)

    def _cells(self, name: str) -> int:
        """Return what the cells of a site count together; one that was added since counts nothing."""
        places = self.ledger.places[name]
        return sum(self.pools[pool][at] for pool, at in places if pool < len(self.pools))


class Ledger:
    """The running counters of a machine: `ledger.cr3_loads` is one of them now, `ledger.counts()` keeps them all."""

    def __init__(
        self, state: CounterState, touched: Counter[Account] | None = None, pools: Sequence[Pool] = ()
    ) -> None:
        """Take the counting hook's state, what Python has touched by account (`Ram.touched`), and the sites' counts."""
        self.state = state
        self.pools = pools
        self.touched = Counter() if touched is None else touched
        self.cells: dict[str, list[Cell]] = {}
        self.places: dict[str, list[tuple[int, int]]] = {}  # of those cells: number of the pool, place there
        self.extra: Counter[str] = Counter()  # counted by policy, in addition to the sites
        self.host_calls: Counter[str] = Counter()
        self.exceptions: Counter[str] = Counter()
        self.interrupts: Counter[str] = Counter()
        self.dma_bytes: Counter[str] = Counter()
        self.user_kind = "client"
        self.plain_since: object = None  # the `Beginning` since whose restoring only instructions were executed
        self.turns = Turns(state)
        words = memoryview(state).cast("B")
        self.numbers = words.cast("Q")[: place("user_kind") + 1]
        self.counters: tuple[Counter[Any], ...] = (
            *(self.extra, self.host_calls, self.exceptions, self.interrupts, self.dma_bytes),
            self.touched,
        )
        self.counted = [words[WORD * place(first) : WORD * (place(last) + 1)] for first, last in COUNTED]

    def __getattr__(self, name: str) -> int:
        """Return the value that `Counts` has by that name: `ledger.cr3_loads`, `ledger.guest_instructions`."""
        if name in SITE_NAMES:
            return self._site(name)
        if name in NOW:
            return int(getattr(self.counts(), name))
        raise AttributeError(f"no counter {name!r}; there are {', '.join((*NOW, *SITE_NAMES))}")

    def __repr__(self) -> str:
        return repr(self.counts()).replace("<counts", "<ledger", 1)

    def counts(self) -> Counts:
        """Return every counter's value now."""
        return self.reading().counts()

    def reading(self) -> Reading:
        """Return what `Reading.counts` makes the present values of: taking it costs a sixth of that."""
        return Reading(self)

    def count_by(self, name: str, cell: Cell) -> None:
        """Count what a cell counts, the one that was made last, as `name`."""
        self.cells.setdefault(name, []).append(cell)
        self.places.setdefault(name, []).append((len(self.pools) - 1, self.pools[-1].used - 1))

    def _site(self, name: str) -> int:
        counted = sum(int(cell.count) for cell in self.cells.get(name, ())) + self.extra.get(name, 0)
        account = BYTE_ACCOUNTS.get(name)
        return counted if account is None else counted + self.touched[account]

    @property
    def user_kind(self) -> str:
        """The account of file bytes that ring 3 touches: "server" or "client"."""
        return FILE_KINDS[self.state.user_kind]

    @user_kind.setter
    def user_kind(self, kind: str) -> None:
        count_for(self.state, FILE_KINDS.index(kind))

    def settle_boot(self) -> None:
        """Book to ring 0 the instructions so far below the kernel's gigabyte: boot code before paging."""
        state = self.state
        for quadrant in range(3):
            state.quadrants[3] += state.quadrants[quadrant]
            state.quadrants[quadrant] = 0
        state.ring_changes = 0

    def save(self) -> tuple[Any, ...]:
        """Return everything for a snapshot."""
        return (
            [*map(bytes, self.counted)],
            [array("Q", pool.counts.tolist()) for pool in self.pools],
            [dict(counter) for counter in self.counters],
            self.turns.save(),
        )

    def load(self, saved: tuple[Any, ...]) -> None:
        """Go back to saved values; counts of sites that were added since begin at zero."""
        counted, pools, counters, turns = saved
        self.turns.load(turns)
        kind = self.state.user_kind
        for words, values in zip(self.counted, counted, strict=True):
            words[:] = values
        if self.state.user_kind != kind:
            count_for(self.state, self.state.user_kind)
        for number, pool in enumerate(self.pools):
            pool.counts[:] = pools[number] if number < len(pools) else UNUSED
        for counter, values in zip(self.counters, counters, strict=True):
            if dict.__ne__(counter, values):
                counter.clear()
                dict.update(counter, values)  # Counter's own adds, and takes ten times as long
