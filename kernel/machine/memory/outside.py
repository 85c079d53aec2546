"""What comes to a machine from outside: the only things in a run that do not follow from what was there before.

Whatever brings one calls `Machine.outside` with it just before it takes effect.  A list of them, each with its
position, is all that is needed to run the machine once more and see the same.
"""

from __future__ import annotations

from callgate.kernel.common.record import record


@record(frozen=True)
class Input:
    """Bytes arrive on the serial line."""

    data: bytes


@record(frozen=True)
class HangUp:
    """The serial line loses carrier: there will be no more input."""


@record(frozen=True)
class Break:
    """The serial line is held in the space condition: Ctrl-C at a terminal."""


@record(frozen=True)
class Unplug:
    """A disk is removed from a place."""

    disk: int


@record(frozen=True)
class Plug:
    """A disk is connected in a place; `image` is the number of its medium in `System.media`."""

    disk: int
    image: int


@record(frozen=True)
class Write:
    """Physical memory is written by hand: by a debugger, or by Python."""

    physical: int
    data: bytes


@record(frozen=True)
class SetRegister:
    """A register of the CPU is changed by hand."""

    name: str
    value: int


@record(frozen=True)
class EndProcess:
    """A debugger ends a process of the guest, as a fault would."""

    process: int


@record(frozen=True)
class Forgotten:
    """A debugger has gone back, and the run goes on in another way: the last things that came have not come."""

    count: int


Numbers = tuple[tuple[str, int], ...]


@record(frozen=True)
class SetUp:
    """Python that is not part of the machine sets it up: a test, for the next call of a routine.

    Only what changes is named: pieces of physical memory with their bytes; general registers, EIP and EFLAGS; segment
    registers, which are loaded from the descriptor tables in memory; control registers; tables as (base, limit); x87
    and SSE registers with their bits, by the names of `tools.recording.changes`.
    """

    memory: tuple[tuple[int, bytes], ...] = ()
    registers: Numbers = ()
    segments: Numbers = ()
    control: Numbers = ()
    tables: tuple[tuple[str, tuple[int, int]], ...] = ()
    floating: Numbers = ()


Outside = Input | HangUp | Break | Unplug | Plug | Write | SetRegister | SetUp | EndProcess | Forgotten
