"""Snapshots of a booted system: the machine's and the kernel's state, taken and restored together.

The machine keeps the state that the guest can see; policy's records are plain data, each copied if it was touched
since the snapshot before (`kept_records`); hosted servers are pickled (`server_copies`), without the memory of their
process.  The state of a coroutine cannot be kept, so a snapshot is taken between requests.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from callgate.kernel.file_data.spans import Span
from callgate.kernel.machine.snapshot import Keep, NotQuiescent, Snapshot, check_restorable, give_back
from callgate.kernel.machine.snapshot import take as take_of_machine
from callgate.kernel.state import KernelState
from callgate.kernel.tasks.threads import FIRST_JOB
from callgate.kernel.watching.snapshots.kept_records import RecordKeeper, Records
from callgate.kernel.watching.snapshots.server_copies import Picklers, ServerCopy
from callgate.kernel.watching.snapshots.sizes import Total

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel
    from callgate.kernel.tasks.threads import Job
    from callgate.server.hosted import HostedServer


class SystemSnapshot(NamedTuple):
    """A system's state; belongs to the system that made it."""

    machine: Snapshot
    records: Records
    servers: dict[int, ServerCopy]  # by process number
    changes: dict[int, int]  # how often each may have changed until then, those that have ended too
    jobs: dict[int, Job]  # that kernel threads have not begun


class Snapshots:
    """Takes and restores the snapshots of one system.

    What has not been touched since the snapshot that was taken or restored last is shared with it.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        state = kernel.state
        self.total = Total()  # of the copies of records and servers that any snapshot has
        roots = [getattr(state, name) for name in KernelState.__slots__ if name != "hosted"]
        self.records = RecordKeeper(roots, self.total)
        self.picklers = Picklers(self.total)
        self.servers: dict[int, ServerCopy] = {}  # of the last one
        self.changes: dict[int, int] = {}  # likewise

    def take(self, keep: Keep | None = None) -> SystemSnapshot:
        """Return a snapshot; NotQuiescent names what is under way.  `keep`: as for a machine's."""
        kernel = self.kernel
        check(kernel)
        records = self.records.keep()  # first: pages of memory take the place of all else in the CPU's caches
        changes = dict(kernel.hosted.changes)
        servers, self.servers = self.servers, {}  # should one fail: its parts may belong to the new copies already
        self.servers = {
            number: servers[number]
            if number in servers and changes[number] == self.changes[number]
            else ServerCopy(server, self.picklers, servers.get(number))
            for number, server in kernel.hosted.servers.items()
        }
        self.changes = changes
        jobs = dict(kernel.threads.jobs)
        return SystemSnapshot(take_of_machine(kernel.machine, keep), records, self.servers, changes, jobs)

    def restore(self, snapshot: SystemSnapshot) -> None:
        """Go back to a snapshot; ValueError if it is another system's.

        Coroutines that a run left unfinished are ended first: the effects of their `finally` blocks are undone with the
        rest.
        """
        kernel = self.kernel
        check_restorable(kernel.machine, snapshot.machine)
        abandon(kernel)
        give_back(kernel.machine, snapshot.machine)
        changed = self.records.give_back(snapshot.records)
        if changed:
            kernel.span_records.bind(record for record in changed if isinstance(record, Span))
        if (
            snapshot.servers
            or self.servers
            or kernel.state.hosted
            or dict.__ne__(kernel.hosted.changes, snapshot.changes)
        ):
            self._give_back_servers(snapshot)
        self.servers, self.changes = snapshot.servers, snapshot.changes
        kernel.threads.jobs.clear()
        kernel.threads.jobs.update(snapshot.jobs)

    def _give_back_servers(self, snapshot: SystemSnapshot) -> None:
        kernel = self.kernel
        processes = kernel.state.tasks.processes if snapshot.servers else {}
        servers = self._as_they_are(snapshot)
        for number, copy in self.servers.items():
            if number not in servers:
                copy.forget()
        for number in snapshot.servers.keys() - servers.keys():
            servers[number] = snapshot.servers[number].on(kernel.hosted.memory_of(processes[number]))
        kernel.state.hosted.clear()
        kernel.state.hosted.update((number, servers[number]) for number in snapshot.servers)
        kernel.hosted.changes = Counter(snapshot.changes)

    def _as_they_are(self, snapshot: SystemSnapshot) -> dict[int, HostedServer]:
        """Return the servers that are what they were then: their Python has not run since."""
        hosted = self.kernel.hosted
        return {
            number: hosted.servers[number]
            for number, copy in self.servers.items()
            if snapshot.servers.get(number) is copy
            and hosted.changes[number] == self.changes[number]
            and number in hosted.servers
        }


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
    if kernel.coroutines.stacks:
        kernel.coroutines.close()
    if kernel.hosted.running:
        kernel.hosted.abandon()
