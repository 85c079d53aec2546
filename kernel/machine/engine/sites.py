"""Sites: instructions that are reported before they execute, served by the one counting hook.

A second code hook in Unicorn would slow every instruction down by half, and code translated before it
was added would not call it.  So the counting hook (`machine.engine.counter`) looks each address up in a table
itself: a byte map by the low 16 bits says "nothing here" for nearly all, a chain of cells distinguishes the
rest.  Counting cells are handled in host code; others are reported to Python.  Nothing translated has to be dropped
when a site comes or goes.

A site is served once per attempt to execute its instruction, before it executes.
"""

import ctypes
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from callgate.kernel.machine.engine.counter_state import CounterState

SITE_SLOTS: Final = 1 << 16
ALWAYS, DIVIDES = 1, 2  # when a cell is reported; bits, which host code gathers from a chain
# The work of host code at instructions of SSE and x87 (`machine.filters.simd`); it reports some of them.
GATHERS, DISCARDS, GATHERS_X87, ALIGNED, UNMASKED, COMPUTES, LENGTHS, STACK = 4, 8, 16, 32, 64, 128, 256, 512
LAST_TURN: Final = 1024  # reported if CX is 1: at LOOPE and LOOPNE
TURN: Final = 2048  # host code charges the thread that ends its turn (`machine.observation.turns`)
FLOATING: Final = 0x7FC  # all of these bits
DISCARDED: Final = 2  # among the engine's exceptions, a bit that is none of them: exceptions with it do not count
SITE_CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)
SiteFunction = Callable[[], None]


class Cell(ctypes.Structure):
    """A place in the code: executions counted, or (`call`) reported to Python.

    `call` is TURN, which is never reported, ALWAYS, or DIVIDES: only if EDX is what the upper half of the smallest
    dividend there is may be (`machine.filters.divisions.may_overflow`), which host code looks at by itself.  With bits
    of FLOATING host code gathers exceptions, and reports an operand that is not aligned, or that not all exceptions are
    masked; the fields from `base` on are addresses of the registers that the operand's address is made of.

    Cells whose addresses agree in their low 16 bits form a chain.
    """

    _fields_ = [
        ("address", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("amount", ctypes.c_uint64),
        ("call", ctypes.c_uint64),
        ("next", ctypes.c_void_p),
        ("base", ctypes.c_void_p),
        ("index", ctypes.c_void_p),
        ("scale", ctypes.c_uint64),
        ("segment", ctypes.c_void_p),
        ("displacement", ctypes.c_uint64),
    ]


POOL: Final = 64  # cells


class Pool:
    """Memory for cells that count, so that all counts can be kept and put back at once."""

    def __init__(self) -> None:
        self.cells = (Cell * POOL)()
        self.used = 0
        words = memoryview(self.cells).cast("B").cast("Q")
        self.counts = words[Cell.count.offset // 8 :: ctypes.sizeof(Cell) // 8]

    def cell(self, address: int, amount: int) -> Cell:
        """Return a new cell; IndexError if all are taken."""
        cell = self.cells[self.used]
        cell.address, cell.amount = address, amount
        self.used += 1
        return cell


class Sites:
    """All sites of one machine, as the counting hook reads them."""

    def __init__(self, state: "CounterState", fail: Callable[[BaseException], None]) -> None:
        """Publish empty tables in `state`; exceptions of site functions go to `fail`."""
        self.map = (ctypes.c_ubyte * SITE_SLOTS)()
        self.chains = (ctypes.c_void_p * SITE_SLOTS)()
        self.cells: dict[int, list[Cell]] = {}
        self.pools: list[Pool] = []
        self.calls: dict[int, list[tuple[int, SiteFunction, list[Cell]]]] = {}
        self.places: dict[int, int] = {}  # number of a call -> address
        self.asked: set[int] = set()  # numbers of those that `call` has returned
        self.number = 0
        self.fail = fail
        self.turn: Callable[[], None] = lambda: None  # what PythonCounter does at a TURN
        self.added: Callable[[int], None] = lambda _address: None  # told of each new site
        self.view = memoryview(self.map).cast("B")
        self._callback = SITE_CALL(self._called)  # host code keeps its address
        state.site_map = ctypes.addressof(self.map)
        state.chains = ctypes.addressof(self.chains)
        state.site_call = ctypes.cast(self._callback, ctypes.c_void_p).value
        state.site_done = (1 << 64) - 1

    def count(self, address: int, amount: int = 1) -> Cell:
        """Add `amount` to a cell whenever the instruction at `address` is about to execute."""
        if not self.pools or self.pools[-1].used == POOL:
            self.pools.append(Pool())
        return self._link(self.pools[-1].cell(address, amount))

    def turns(self, address: int) -> None:
        """Have host code charge a thread whenever the instruction at `address` is about to execute."""
        self._link(Cell(address=address, call=TURN))

    def call(self, address: int, function: SiteFunction, when: int = ALWAYS) -> int:
        """Call `function` before the instruction at `address`; return a number for `remove`.

        With DIVIDES it is called whenever EDX is suspicious, and may be called at other times too.
        """
        number = self.call_by(Cell(address=address, call=when), function)
        self.asked.add(number)
        return number

    def call_by(self, cell: Cell, function: SiteFunction) -> int:
        """Call `function` when a new cell is reported; return a number for `remove`."""
        self.number += 1
        self.calls.setdefault(cell.address, []).append((self.number, function, [self._link(cell)]))
        self.places[self.number] = cell.address
        return self.number

    def also(self, number: int, cell: Cell) -> None:
        """Call the function of a number also when a second cell for the same address is reported."""
        cells = next(cells for other, _, cells in self.calls[cell.address] if other == number)
        cells.append(self._link(cell))

    def remove(self, number: int) -> None:
        """Remove a call; KeyError if there is none of this number."""
        self.remove_several([number])

    def remove_several(self, numbers: Iterable[int]) -> None:
        """Remove calls, in time that grows with their number and not with its square."""
        gone: dict[int, set[int]] = {}
        for number in numbers:
            if number not in self.places:
                raise KeyError(f"there is no site {number}")
            address = self.places.pop(number)
            self.asked.discard(number)
            cells = next(cells for other, _, cells in self.calls[address] if other == number)
            self.calls[address] = [entry for entry in self.calls[address] if entry[0] != number]
            if not self.calls[address]:
                del self.calls[address]
            gone.setdefault(address & SITE_SLOTS - 1, set()).update(map(id, cells))
        for slot, dropped in gone.items():
            self.cells[slot] = [cell for cell in self.cells[slot] if id(cell) not in dropped]
            self._publish(slot)

    def call_always(self, number: int) -> None:
        """Call the function of a number at all times from now on."""
        cells = next(cells for other, _, cells in self.calls[self.places[number]] if other == number)
        cells[0].call |= ALWAYS

    def holds(self, address: int) -> bool:
        """Whether there is a site at `address` itself, and not only at one with the same low bits."""
        return any(cell.address == address for cell in self.cells.get(address & SITE_SLOTS - 1, ()))

    def any(self, address: int, size: int) -> bool:
        """Whether the map says of any of `size` bytes that there may be a site."""
        first = address & SITE_SLOTS - 1
        beyond = first + size - SITE_SLOTS
        return 1 in self.view[first : first + size].tobytes() or (beyond > 0 and 1 in self.view[:beyond].tobytes())

    def serve(self, address: int) -> None:
        """Do what host code does when the map says that something is here (`PythonCounter`)."""
        report = False
        for cell in self.cells.get(address & SITE_SLOTS - 1, ()):
            if cell.address == address:
                cell.count += cell.amount
                if cell.call == TURN:
                    self.turn()
                else:
                    report = report or bool(cell.call)
        if report:
            self._called(None, address)

    def _called(self, _uc: int | None, address: int) -> None:
        try:
            for _, function, _ in list(self.calls.get(address, ())):
                function()
        except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
            self.fail(error)

    def _link(self, cell: Cell) -> Cell:
        slot = cell.address & SITE_SLOTS - 1
        self.cells.setdefault(slot, []).append(cell)
        cell.next = self.chains[slot]  # in front: the order in a chain does not matter, and a chain may be long
        self.chains[slot] = ctypes.addressof(cell)
        self.map[slot] = 1
        self.added(cell.address)
        return cell

    def _publish(self, slot: int) -> None:
        """Write the chain of a slot; the host code reads it only while Python waits for the engine."""
        head = None
        for cell in reversed(self.cells[slot]):
            cell.next = head
            head = ctypes.addressof(cell)
        self.chains[slot] = head
        self.map[slot] = int(head is not None)
