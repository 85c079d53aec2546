"""Snapshots: the whole machine as it stood at a quiescent point, to go back to any number of times.

RAM is a private mapping of a memory file.  A snapshot writes the pages in use to a new file and maps that; restoring is
mapping it once more, which drops every page written since.  The rest is registers and plain data.  Translated code
survives as long as the pages it came from are the same in the snapshot, which is what makes hundreds of restored tests
a second possible.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from callgate.kernel.abi.memory import HIGH_MEMORY, PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.machine.engine.counter_state import NOWHERE
from callgate.kernel.machine.memory.accounts import Account

if TYPE_CHECKING:
    from callgate.kernel.machine.memory.ram import Backing
    from callgate.kernel.machine.parts import Parts


class NotQuiescent(RuntimeError):
    """The machine is in the middle of something that a snapshot cannot hold."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A machine's state; belongs to the machine that made it."""

    owner: int
    memory: tuple[Backing, ...]
    cpu: bytes
    ledger: tuple[Any, ...]
    plain: bytes  # pickled: devices, events, idle time, other participants
    clock: int

    def __repr__(self) -> str:
        size = sum(backing.stored for backing in self.memory)
        return f"<snapshot at {self.clock} ns, {size >> 10} KiB of memory>"


def take(machine: Parts) -> Snapshot:
    """Return a snapshot; NotQuiescent names what is under way."""
    check(machine)
    machine.serial.flush()
    plain = {
        "devices": {name: device.save() for name, device in machine.devices.items()},
        "events": machine.events.save(),
        "idle": machine.clock.idle,
        "recent": list(machine.traps.recent),
        "returning": machine.traps.returns.wanted,
        "others": {name: save() for name, (save, _) in machine.participants.items()},
    }
    machine.cpu.save()
    return Snapshot(
        id(machine),
        tuple(region.freeze() for region in machine.ram.regions),
        bytes(machine.cpu.context.view),
        machine.ledger.save(),
        pickle.dumps(plain),
        machine.clock.now,
    )


def restore(machine: Parts, snapshot: Snapshot) -> None:
    """Go back to a snapshot; ValueError if it is another machine's."""
    check_restorable(machine, snapshot)
    machine.control.clear()
    machine.state.stop_address = NOWHERE
    machine.traps.refusal = machine.filters.floating.later = None
    stale = differing(machine, snapshot)
    for region, backing in zip(machine.ram.regions, snapshot.memory, strict=True):
        region.rebase(backing)
    machine.cpu.context.view[:] = snapshot.cpu
    machine.cpu.restore()
    machine.translations.flush_tlb()
    machine.ledger.load(snapshot.ledger)
    if stale:
        machine.translations.forget(stale)
    plain = pickle.loads(snapshot.plain)  # noqa: S301 - pickled by `take` in this process
    for name, state in plain["devices"].items():
        machine.devices[name].load(state)
    machine.events.load(plain["events"])
    machine.clock.idle = plain["idle"]
    machine.traps.returns.wanted = plain["returning"]
    machine.traps.recent.clear()
    machine.traps.recent.extend(plain["recent"])
    for name, (_, load) in machine.participants.items():
        load(plain["others"][name])


def check_restorable(machine: Parts, snapshot: Snapshot) -> None:
    """Raise ValueError if a snapshot is another machine's, NotQuiescent if this one runs or is closed."""
    if snapshot.owner != id(machine):
        raise ValueError("a snapshot can be restored only by the machine that took it")
    if machine.control.running or machine.handle is None:
        raise NotQuiescent("the machine is running" if machine.handle else "the machine is closed")


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


def differing(machine: Parts, snapshot: Snapshot) -> set[int]:
    """Return the physical pages with translated code that are not the same in the snapshot."""
    low, high = snapshot.memory[0], snapshot.memory[-1]
    stale = set()
    for page in machine.translations.pages:
        physical = page << PAGE_SHIFT
        if physical >= HIGH_MEMORY:
            kept = high.page(physical - HIGH_MEMORY)
        else:
            kept = low.page(physical)
        if kept != machine.ram.read(physical, PAGE_SIZE, Account.MACHINE):
            stale.add(page)
    return stale
