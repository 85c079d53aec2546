"""The kernel: policy's managers around one machine, each given what it needs, and the host calls that reach them.

A manager that has to call one made later is given a function defined here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from callgate.kernel.abi.calls import HostCall, WaitReason
from callgate.kernel.abi.disks.disk import DiskStatus
from callgate.kernel.abi.selectors import GDT_FIRST_ENDPOINT
from callgate.kernel.core.coroutines import Coroutines
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.log import Log
from callgate.kernel.core.records import Process
from callgate.kernel.file_data.ageing import FileAgeing
from callgate.kernel.file_data.ageing_timer import AgeingTimer
from callgate.kernel.file_data.answers import Answers
from callgate.kernel.file_data.completion import Completion
from callgate.kernel.file_data.fetching import Fetching
from callgate.kernel.file_data.hunger import Hunger
from callgate.kernel.file_data.letting_go import LettingGo
from callgate.kernel.file_data.mapping import FileMapping
from callgate.kernel.file_data.pages import FilePages
from callgate.kernel.file_data.spans import SpanRecords
from callgate.kernel.file_data.writing import FileWriting
from callgate.kernel.files.directories import Directories
from callgate.kernel.files.handles import Files
from callgate.kernel.files.names import Names
from callgate.kernel.files.opening import FileOpening
from callgate.kernel.files.reading import Reading
from callgate.kernel.gates.block_windows import BlockWindows
from callgate.kernel.gates.caller import Caller
from callgate.kernel.gates.exits import Exits
from callgate.kernel.gates.faults import Faults
from callgate.kernel.gates.file_calls import FileCalls
from callgate.kernel.gates.host_calls import Answer, HostCalls, LaterAnswer
from callgate.kernel.gates.information_calls import InformationCalls
from callgate.kernel.gates.process_calls import ProcessCalls
from callgate.kernel.gates.server_calls import ServerCalls
from callgate.kernel.gates.starting import Programs
from callgate.kernel.gates.system_calls import SystemCalls
from callgate.kernel.gates.volume_information import VolumeQueries
from callgate.kernel.ipc.deferred_releases import DeferredReleases
from callgate.kernel.ipc.endpoint_lifetimes import EndpointLifetimes
from callgate.kernel.ipc.posted import Posted
from callgate.kernel.ipc.replies import Replies
from callgate.kernel.ipc.requests import Requests
from callgate.kernel.ipc.slots import Slots
from callgate.kernel.memory.descriptor_tables import GlobalTable
from callgate.kernel.memory.physical_memory import PhysicalMemory
from callgate.kernel.memory.pins import Pins
from callgate.kernel.memory.windows import Windows
from callgate.kernel.servers.disk_changes import DiskChanges
from callgate.kernel.servers.hosted_servers import Hosted
from callgate.kernel.servers.lifecycle import Servers
from callgate.kernel.servers.mounting import Mounting
from callgate.kernel.servers.volumes import Volumes
from callgate.kernel.state import KernelState
from callgate.kernel.storage.cache import Cache
from callgate.kernel.storage.changed_blocks import ChangedBlocks
from callgate.kernel.storage.disk_reader import DiskReader
from callgate.kernel.storage.disk_requests import DiskRequests, Key, Run
from callgate.kernel.storage.disk_watch import DiskWatch
from callgate.kernel.storage.disks import Disks
from callgate.kernel.storage.sector_lists import SectorLists
from callgate.kernel.tasks.fpu import FloatingPointUnit
from callgate.kernel.tasks.processes import Processes
from callgate.kernel.tasks.scheduler import Scheduler
from callgate.kernel.tasks.shares import Shares
from callgate.kernel.tasks.threads import Threads

if TYPE_CHECKING:
    from callgate.asm.assembler import Program
    from callgate.kernel.machine import Machine


class Kernel:
    """Policy of one machine.  `boot` in `callgate.kernel.system` makes and starts it."""

    check: Callable[[], list[str]]  # returns contradictions of its invariants, as text, in 10 ms; set by `System`

    def __init__(
        self,
        machine: Machine,
        image: Program,
        state: KernelState,
        log: Callable[[str], None],
        urgent: Callable[[str], None] | None = None,
    ) -> None:
        """Take the machine, the assembled kernel, records in which memory is free, and the log's output function."""
        self.machine = machine
        self.image = image
        self.state = state
        self.scratch = False  # programs may write to file data in memory, which is never written to a disk
        self.map_edges = False  # map pages that hold other data as well, instead of copying (leaks neighbours)
        self.guest = Guest(machine, image)
        self.log = Log(state.log, self.guest, state.endpoints, log, urgent)
        self._make_tasks()
        self._make_ipc_and_storage()
        self._make_files_and_servers()
        self._make_gates()

    def _make_tasks(self) -> None:
        """Memory, threads and processes."""
        guest, state = self.guest, self.state
        tasks = state.tasks
        self.memory = PhysicalMemory(guest, state.low, state.high, state.space)
        self.gdt = GlobalTable(guest.ram, guest.physical("gdt"))
        self.scheduler = Scheduler(
            guest.words,
            guest.kernel_words.base,
            lambda: guest.now,
            self._count_wait,
            state.scheduler,
            tasks,
            self._before_idle,
        )
        self.coroutines = Coroutines(guest.words, guest.address, lambda: self.scheduler.current.tcb)
        self.fpu = FloatingPointUnit(guest, tasks)
        self.shares = Shares(tasks, state.endpoints, self.memory, self._reclaim_low)
        self.threads = Threads(guest, self.memory, self.gdt, self.scheduler, self.fpu, tasks, self.shares.check_thread)
        self.processes = Processes(guest, self.memory, self.threads, tasks, self.shares, self._let_go)

    def _make_ipc_and_storage(self) -> None:
        """Endpoints, disks and their cache."""
        state = self.state
        self.disks = Disks(self.guest)
        self.disk_watch = DiskWatch(state.disk_watch, self.guest, self.threads, self.scheduler)
        self.disk_requests = DiskRequests(
            state.disk_requests,
            self.guest,
            state.low,
            self.disks,
            self.scheduler,
            self.disk_watch,
            self._blocks_ended,
        )
        self.cache = Cache(
            state.cache,
            state.high,
            self.scheduler,
            self.disk_requests,
            self._reclaim_blocks,
            self._blocks_left_unread,
        )
        self.changed_blocks = ChangedBlocks(self.cache)
        self.pins = Pins(state.low, self.cache.unlock)
        self.posted = Posted()
        self.slots = Slots(state.endpoints, self.guest, self.memory, self.gdt, self.scheduler, self.pins, self.posted)
        self.requests = Requests(self.guest, self.threads, self.slots, self.disks.there)
        self.replies = Replies(state.endpoints, self.memory, self.slots, self.log)
        self.windows = Windows(self.guest, self.memory, self.pins, state.endpoints)

    def _make_files_and_servers(self) -> None:
        """File data and directories; the processes that serve them."""
        state = self.state
        self.releases = DeferredReleases(state.releases, self.guest, self.threads, self.slots, self.log, self.stop)
        self.ageing_timer = AgeingTimer(state.file_ageing, self.guest, self.threads)
        self.names = Names(self.requests, self.releases)
        self._make_file_data()
        self.directories = Directories(
            state.directories,
            self.memory,
            self.windows,
            self.names,
            self.releases,
            self.shares,
            state.endpoints,
        )
        self.posted.file_data = self.answers
        self.posted.releases = self.releases
        self.posted.granted = self.releases.granted
        self.posted.unclaimed = self.releases.unclaimed
        self.endpoint_lifetimes = EndpointLifetimes(
            self.slots,
            self.memory,
            self.gdt,
            self.threads,
            (self.releases, self.file_opening, self.directories),
            self.letting_go.in_use,
        )
        self.volume_queries = VolumeQueries(self.guest, self.requests)
        self.mounting = Mounting(state.mounting, self.guest, self.threads, self.log)
        self.hosted = Hosted(state.hosted, self.guest, self.processes, self.mounting, self._end_server)
        self.servers = Servers(
            self.guest, self.threads, self.processes, self.endpoint_lifetimes, self.hosted, self.mounting
        )
        self.disk_reader = DiskReader(self.guest, self.cache)
        self.volumes = Volumes(self.guest, self.disks, self.disk_reader, self.requests, self.servers, self.mounting)
        self.disk_changes = DiskChanges(state.disk_changes, self.disks, self.cache, self.changed_blocks, self.volumes)

    def _make_file_data(self) -> None:
        """File data: the managers that release them, up to those that request them."""
        guest, state, tasks, cache = self.guest, self.state.files, self.state.tasks, self.cache
        self.file_writing = FileWriting(state, guest, self.memory.tables, tasks, self.scheduler, self.changed_blocks)
        self.mapping = FileMapping(state, tasks, self.windows, self.file_writing, self.ageing_timer)
        self.span_records = SpanRecords(guest, self.shares)
        self.letting_go = LettingGo(
            state, self.memory.low, self.pins, self.mapping, self.releases, self.ageing_timer, self.span_records
        )
        self.file_ageing = FileAgeing(state, self.ageing_timer, self.memory, tasks, self.letting_go)
        pages = FilePages(state, guest, self.shares, self.letting_go, lambda: self.map_edges)
        self.sector_lists = SectorLists(self.state.sector_lists, guest, tasks, self.shares)
        self.hunger = Hunger(state, guest, tasks, self.threads)
        self.completion = Completion(state, cache, self.sector_lists, pages, self.hunger, self.letting_go, self.log)
        self.answers = Answers(state, cache, self.requests, self.replies, self.completion)
        self.fetching = Fetching(state, self.threads, self.slots, cache, self.hunger, self.completion)
        self.reading = Reading(state, cache, self.shares, self.fetching, self.mapping)
        self.file_opening = FileOpening(state, self.names, self.shares, self.fetching, self.answers)
        self.files = Files(
            state, self.state.endpoints, self.shares, self.file_opening, self.mapping, lambda: self.scratch
        )

    def _make_gates(self) -> None:
        """The entrances into policy: calls, faults, exits."""
        tasks = self.state.tasks
        self.programs = Programs(tasks, self.processes, self.state.endpoints, self.file_opening.read_all)
        self.faults = Faults(self.guest, self.threads, self.processes, self.servers, self.reading, self.fpu, self.log)
        caller = Caller(self.guest, self.processes, self.reading)
        calls = (
            ProcessCalls(caller, self.processes, self.programs, self.endpoint_lifetimes),
            FileCalls(caller, self.files, self.reading, self.directories),
            InformationCalls(caller, tasks, self.slots, self.volume_queries),
        )
        table = {number: handler for group in calls for number, handler in group.table.items()}
        self.system_calls = SystemCalls(self.guest, self.threads, table)
        self.server_calls = ServerCalls(
            self.guest,
            self.threads,
            self.state.endpoints,
            self.directories,
            self.hosted,
            BlockWindows(self.cache, self.windows, self.shares),
        )
        self.exits = Exits(
            tasks,
            self.scheduler,
            self.threads,
            self.processes,
            self.servers,
            self.hosted,
            self.releases.end,
        )

    def register(self) -> None:
        """Register the answers to the host calls of the kernel image."""
        answers: dict[HostCall, Answer] = {
            HostCall.SCHEDULE: self.scheduler.host_schedule,
            HostCall.WAKE: self.scheduler.host_wake,
            HostCall.HANDOFF: self.scheduler.host_handoff,
            HostCall.TICK: self.scheduler.host_tick,
            HostCall.YIELD: self.scheduler.host_yield,
            HostCall.RESUME: self.coroutines.host_resume,
            HostCall.FIRST_USE: self.slots.host_first_use,
            HostCall.SLOT_WAIT: self.slots.host_slot_wait,
            HostCall.SLOT_GIVE: self.slots.host_slot_give,
            HostCall.SLOT_DROP: self.slots.host_slot_drop,
            HostCall.SLOT_FAIL: self.slots.host_slot_fail,
            HostCall.CONVERT: self.replies.host_convert,
            HostCall.DISK_DONE: self.disk_requests.host_disk_done,
            HostCall.DISK_CHANGED: self.disk_changes.host_disk_changed,
            HostCall.DISK_WATCHED: self.disk_requests.host_disk_watched,
            HostCall.FILE_READY: self.completion.host_file_ready,
            HostCall.INPUT: self.processes.host_input,
        }
        later: dict[HostCall, LaterAnswer] = {
            HostCall.EXCEPTION: self.faults.host_exception,
            HostCall.SYSTEM: self.system_calls.host_system,
            HostCall.SERVER: self.server_calls.host_server,
            HostCall.REPLIED: self.slots.host_replied,
            HostCall.JOB: self.threads.host_job,
            HostCall.EXIT_THREAD: self.exits.host_exit_thread,
            HostCall.FILES_AGE: self.file_ageing.host_files_age,
            HostCall.POST_RELEASES: self.releases.host_post_releases,
        }
        HostCalls(self.guest, self.coroutines).register(answers, later)

    @property
    def exit_code(self) -> int | None:
        """The shell's exit code, None while it runs."""
        return self.state.tasks.exit_code

    async def start_services(self, *, first: bool) -> None:
        """Mount the ROM and every partition of every disk, and wait until every mount has succeeded or failed.

        With `first`, do not wait long once one is mounted.
        """
        self.volumes.find_servers()
        self.volumes.mount_rom()
        self.disk_watch.start()
        self.ageing_timer.start()
        self.releases.start()
        self.disk_changes.mount_present()
        await self.mounting.settled(first=first)

    def stop(self) -> None:
        """Stop the machine: the shell has ended."""
        self.log.finish()
        self.machine.request_stop("exit", self.exit_code)

    def release(self) -> None:
        """Close all coroutines, and release the views of guest memory, so that it can be unmapped."""
        self.coroutines.close()
        self.guest.release()

    # Functions by which a manager calls one that is made later.

    def _reclaim_low(self, enough: Callable[[], bool]) -> bool:
        """Release low memory of idle directories and file data until that is `enough`; False if there is none."""
        return self.directories.reclaim() or self.letting_go.reclaim(low=True, enough=enough)

    def _reclaim_blocks(self, enough: Callable[[], bool]) -> bool:
        """Release blocks of the cache that idle file data hold until that is `enough`; False if there is none."""
        return self.letting_go.reclaim(enough=enough)

    def _blocks_ended(self, run: Run, status: DiskStatus) -> None:
        """A disk request has ended: tell the cache."""
        self.cache.ended(run, status)

    def _blocks_left_unread(self, keys: set[Key]) -> None:
        """No disk request will read these blocks: tell the file data that may wait for them."""
        self.completion.left_unread(keys)

    def _end_server(self, process: Process, reason: str, details: Sequence[str]) -> None:
        """End the server of a hosted handler that has failed."""
        self.servers.kill(process, reason, details)

    def _let_go(self, process: Process) -> None:
        """Release directories, files, windows and hosted servers of a process that ends."""
        self.directories.unlock_all(process)
        self.files.close_all(process)
        self.windows.close_all(process)
        self.hosted.end_process(process)

    def _before_idle(self) -> None:
        """Do what was put off until the CPU idles."""
        self.releases.send_put_off(disk_works=bool(self.state.disk_requests.in_flight))

    def _count_wait(self, reason: int) -> None:
        """Count a wait that policy was asked for; one for a reply also in its endpoint, GS's."""
        self.machine.ledger.extra["blocking_waits"] += 1
        if reason == WaitReason.REPLY:
            endpoint = self.state.endpoints.by_number.get(self.machine.cpu.gs // 8 - GDT_FIRST_ENDPOINT)
            if endpoint is not None:
                self.slots.count_wait(endpoint)
