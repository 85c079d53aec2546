"""What comes to a machine from outside: the only things in a run that do not follow from what was there before.

Whatever brings one calls `Machine.outside` with it just before it takes effect.  A list of them, each with its
position, is all that is needed to run the machine once more and see the same.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Input:
    """Bytes arrive on the serial line."""

    data: bytes


@dataclass(frozen=True, slots=True)
class HangUp:
    """The serial line loses carrier: there will be no more input."""


@dataclass(frozen=True, slots=True)
class Break:
    """The serial line is held in the space condition: Ctrl-C at a terminal."""


@dataclass(frozen=True, slots=True)
class Unplug:
    """A disk is removed from a place."""

    disk: int


@dataclass(frozen=True, slots=True)
class Plug:
    """A disk is connected in a place; `image` is the number of its medium in `System.media`."""

    disk: int
    image: int


@dataclass(frozen=True, slots=True)
class Write:
    """Physical memory is written by hand: by a debugger, or by Python."""

    physical: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SetRegister:
    """A register of the CPU is changed by hand."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class EndProcess:
    """A debugger ends a process of the guest, as a fault would."""

    process: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A debugger has gone back, and the run goes on in another way: the last things that came have not come."""

    count: int


Outside = Input | HangUp | Break | Unplug | Plug | Write | SetRegister | EndProcess | Forgotten
