"""Snapshots of a booted system: the machine's and the kernel's state, taken and restored together.

The machine keeps the state that the guest can see; policy's records are plain data, pickled whole, and so are hosted
servers (`server_copies`), each without the memory of its process.  The state of a coroutine cannot be kept, so a
snapshot is taken between requests.
"""

from __future__ import annotations

import io
import pickle
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from callgate.kernel.machine.snapshot import Keep, NotQuiescent, Snapshot, check_restorable
from callgate.kernel.state import KernelState
from callgate.kernel.tasks.threads import FIRST_JOB
from callgate.kernel.watching.server_copies import ServerCopy

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel
    from callgate.kernel.tasks.threads import Job


class Records(pickle.Unpickler):
    """Reads policy's records.  Each of their classes is looked up once in a process, not at each restore."""

    known: ClassVar[dict[tuple[str, str], Any]] = {}

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return a class by the names of its module and its own."""
        name = module_name, global_name
        if name not in self.known:
            self.known[name] = super().find_class(*name)
        return self.known[name]


@dataclass(frozen=True, slots=True)
class SystemSnapshot:
    """A system's state; belongs to the system that made it."""

    machine: Snapshot
    policy: bytes
    servers: dict[int, ServerCopy]  # by process number
    changes: dict[int, int]  # how often each may have changed until then, those that have ended too
    host_calls: dict[str, int]  # made until then
    jobs: dict[int, Job]  # that kernel threads have not begun

    @property
    def parts(self) -> tuple[bytes, ...]:
        """What it may share with the snapshot before it."""
        return (self.policy, *(copy.pickled for copy in self.servers.values()))


def take(kernel: Kernel, keep: Keep | None = None, since: SystemSnapshot | None = None) -> SystemSnapshot:
    """Return a snapshot; NotQuiescent names what is under way.  `keep`: as for a machine's.

    `since` is a snapshot from which the run has come here: what host calls have not touched since is shared with it.
    """
    check(kernel)
    host_calls = dict(kernel.machine.ledger.host_calls)
    if since is not None and host_calls == since.host_calls:
        policy = since.policy
    else:
        policy = pickle.dumps(replace(kernel.state, hosted={}))
    changes = dict(kernel.hosted.changes)
    servers = {
        number: since.servers[number]
        if since is not None and number in since.servers and changes[number] == since.changes[number]
        else ServerCopy(server)
        for number, server in kernel.hosted.servers.items()
    }
    machine = kernel.machine.snapshot(keep)
    return SystemSnapshot(machine, policy, servers, changes, host_calls, dict(kernel.threads.jobs))


def restore(kernel: Kernel, snapshot: SystemSnapshot) -> None:
    """Go back to a snapshot; ValueError if it is another system's.

    Coroutines that a run left unfinished are ended first: the effects of their `finally` blocks are undone with the
    rest.
    """
    check_restorable(kernel.machine, snapshot.machine)
    abandon(kernel)
    kernel.machine.restore(snapshot.machine)
    state: KernelState = Records(io.BytesIO(snapshot.policy)).load()  # pickled by `take` in this process
    state.hosted = {
        number: copy.on(kernel.hosted.memory_of(state.tasks.processes[number]))
        for number, copy in snapshot.servers.items()
    }
    kernel.state.put_back(state)
    kernel.hosted.changes = Counter(snapshot.changes)
    kernel.threads.jobs.clear()
    kernel.threads.jobs.update(snapshot.jobs)
    kernel.span_records.bind(span for file in kernel.state.files.objects.values() for span in file.spans)


def check(kernel: Kernel) -> None:
    """Raise NotQuiescent while policy is in the middle of something."""
    reason = under_way(kernel)
    if reason is not None:
        raise NotQuiescent(reason)


def under_way(kernel: Kernel) -> str | None:
    """Return what policy is in the middle of, in words; None if its state can be kept."""
    if kernel.coroutines.stacks:
        return f"policy is in the middle of {kernel.coroutines.alive} operations; run on until it is done"
    if kernel.hosted.running:
        return "a hosted server works on a request; run on until it has replied"
    if any(number != FIRST_JOB for number in kernel.threads.jobs):  # the first refers to none of the records
        return "a server's mount has not begun; run on until it has ended"
    return None


def abandon(kernel: Kernel) -> None:
    """End the coroutines that were under way when the run stopped."""
    kernel.coroutines.close()
    kernel.hosted.abandon()
