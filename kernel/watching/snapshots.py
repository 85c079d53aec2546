"""Snapshots of a booted system: the machine's and the kernel's state, taken and restored together.

The machine keeps the state that the guest can see; policy's records are plain data, pickled whole.  Hosted servers are
Python objects of other packages: they are duplicated, each time on the memory of the restored process. The state of a
coroutine cannot be kept, so a snapshot is taken between requests.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from callgate.kernel.machine.snapshot import Keep, NotQuiescent, Snapshot, check_restorable
from callgate.kernel.state import KernelState
from callgate.server.hosted import HostedServer

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel


@dataclass(frozen=True, slots=True)
class SystemSnapshot:
    """A system's state; belongs to the system that made it."""

    machine: Snapshot
    policy: bytes
    servers: dict[int, HostedServer]  # by process number


def take(kernel: Kernel, keep: Keep | None = None) -> SystemSnapshot:
    """Return a snapshot; NotQuiescent names what is under way.  `keep`: as for a machine's."""
    check(kernel)
    policy = pickle.dumps(replace(kernel.state, hosted={}))
    kept = {number: server.duplicate(server.memory) for number, server in kernel.hosted.servers.items()}
    return SystemSnapshot(kernel.machine.snapshot(keep), policy, kept)


def restore(kernel: Kernel, snapshot: SystemSnapshot) -> None:
    """Go back to a snapshot; ValueError if it is another system's.

    Coroutines that a run left unfinished are ended first: the effects of their `finally` blocks are undone with the
    rest.
    """
    check_restorable(kernel.machine, snapshot.machine)
    abandon(kernel)
    kernel.machine.restore(snapshot.machine)
    state: KernelState = pickle.loads(snapshot.policy)  # noqa: S301 - pickled by `take` in this process
    state.hosted = {
        number: server.duplicate(kernel.hosted.memory_of(state.tasks.processes[number]))
        for number, server in snapshot.servers.items()
    }
    kernel.state.put_back(state)
    kernel.span_records.bind(span for file in kernel.state.files.objects.values() for span in file.spans)


def check(kernel: Kernel) -> None:
    """Raise NotQuiescent while policy is in the middle of something."""
    if kernel.coroutines.alive:
        raise NotQuiescent(f"policy is in the middle of {kernel.coroutines.alive} operations; run on until it is done")
    if kernel.hosted.running:
        raise NotQuiescent("a hosted server works on a request; run on until it has replied")


def abandon(kernel: Kernel) -> None:
    """End the coroutines that were under way when the run stopped."""
    kernel.coroutines.close()
    kernel.hosted.abandon()
