"""Information about the system for programs, and disk blocks for servers, each call alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from callgate.kernel.abi.calls import HOST_CALL_FIRST, HostCall, Operation, ServerCall, SystemCall, WaitReason
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.memory import HIGH_MEMORY, USER_HEAP
from callgate.kernel.abi.thread import IpcInformation, LedgerInformation, ProcessInformation, ThreadState
from callgate.kernel.abi.volume import VOLUME_BRIEFLY, VOLUME_UNASKED, VolumeInformation
from callgate.kernel.core.coroutines import RoutineCall
from callgate.kernel.core.errors import GivenUp, Overdue, PolicyError, ServerAnswer, ServerFault, Shortage
from callgate.kernel.core.records import EndpointState, Process
from callgate.kernel.gates.block_windows import BlockWindows
from callgate.kernel.gates.information_calls import InformationCalls
from callgate.kernel.gates.server_calls import ServerCalls
from callgate.kernel.gates.volume_information import BRIEFLY, PATIENCE, VolumeQueries
from callgate.kernel.machine.observation.ledger import Counts
from callgate.kernel.memory.pins import Pins
from callgate.kernel.memory.windows import Windows
from callgate.kernel.storage.cache_records import Locked
from plain_gate import Gate
from plain_guest import drive, refusal


@pytest.fixture
def gate() -> Gate:
    return Gate()


# Information for programs.


class Answering:
    """Requests whose replies the test gives; the deadlines are noted."""

    def __init__(self, *replies: PolicyError | RoutineCall) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[int, Operation]] = []

    async def make_until(self, deadline: int, _endpoint: EndpointState, operation: Operation) -> object:
        self.asked.append((deadline, operation))
        reply = self.replies.pop(0)
        if isinstance(reply, PolicyError):
            raise reply

        async def take_data() -> bytes:
            return "LÄBEL".encode()

        async def finish() -> None:
            pass

        return SimpleNamespace(registers=reply, take_data=take_data, finish=finish)


VOLUME = RoutineCall("", eax=VolumeFlags.DIRTY | VolumeFlags.NOT_ANSWERED, ebx=0x1234)
FREE = RoutineCall("", eax=5, edx=1, ecx=4096, esi=9, edi=2)


def described(gate: Gate, *replies: PolicyError | RoutineCall) -> VolumeInformation:
    found = drive(VolumeQueries(gate.guest, Answering(*replies)).describe(gate.endpoint, 10))[0]
    assert isinstance(found, VolumeInformation)
    return found


def test_a_volume_is_described_by_its_server_which_cannot_claim_not_to_have_answered(gate: Gate) -> None:
    gate.endpoint.file_system = "fat16"
    found = described(gate, VOLUME, FREE)
    assert (bytes(found.name).rstrip(b"\0"), bytes(found.file_system).rstrip(b"\0")) == (b"d0p1", b"fat16")
    assert (bytes(found.label).rstrip(b"\0").decode(), found.serial, found.flags) == (
        "LÄBEL",
        0x1234,
        VolumeFlags.DIRTY,
    )
    assert (found.cluster_bytes, found.free_clusters, found.total_clusters) == (4096, 1 << 32 | 5, 2 << 32 | 9)


@pytest.mark.parametrize(
    ("replies", "flags"),
    [
        ((Overdue(),), VolumeFlags.NO_FREE_SPACE | VolumeFlags.NOT_ANSWERED),
        ((ServerFault(ErrorCode.SERVER_DIED),), VolumeFlags.NO_FREE_SPACE),
        ((VOLUME, ServerAnswer(ErrorCode.NOT_SUPPORTED)), VolumeFlags.DIRTY | VolumeFlags.NO_FREE_SPACE),
    ],
)
def test_a_server_that_does_not_describe_its_volume_hides_no_other_volume(
    gate: Gate, replies: tuple[PolicyError | RoutineCall, ...], flags: int
) -> None:
    assert described(gate, *replies).flags == flags


@pytest.mark.parametrize("code", [ErrorCode.KILLED, ErrorCode.INTERRUPTED])
def test_a_killed_or_interrupted_caller_of_volume_information_stops_waiting(gate: Gate, code: ErrorCode) -> None:
    with refusal(code):
        described(gate, GivenUp(code))


def information(gate: Gate, queries: object = None) -> InformationCalls:
    gate.frame["edi"] = USER_HEAP
    gate.user_memory()
    return InformationCalls(gate.caller, gate.records, gate.slots, queries)


@pytest.mark.parametrize(("flag", "patience"), [(0, PATIENCE), (VOLUME_BRIEFLY, BRIEFLY), (VOLUME_UNASKED, None)])
def test_a_caller_of_volume_information_waits_as_long_as_it_asked(gate: Gate, flag: int, patience: int | None) -> None:
    requests = Answering(VOLUME, FREE)
    calls = information(gate, VolumeQueries(gate.guest, requests))
    gate.now(7)
    gate.frame["ebx"] = flag
    drive(calls.volume_information(gate.thread, gate.frame))
    assert requests.asked == ([] if patience is None else [(7 + patience, 2), (7 + patience, 1)])
    assert gate.user_memory().read(USER_HEAP + 32, 5) == b"d0p1\0"
    gate.frame["ebx"] = flag | 1
    with refusal(ErrorCode.NOT_FOUND):
        drive(calls.volume_information(gate.thread, gate.frame))


def test_threads_are_listed_by_number_with_the_instructions_used_so_far(gate: Gate) -> None:
    calls = information(gate)
    gate.machine.state.count, gate.machine.ledger.turns.words[0] = 500, gate.thread.selector
    gate.frame["ebx"] = 1
    calls.process_information(gate.thread, gate.frame)
    row = ProcessInformation.from_buffer_copy(gate.user_memory().read(USER_HEAP, size_of(ProcessInformation)))
    assert (row.process, row.thread, row.state, row.instructions) == (1, gate.thread.number, ThreadState.RUNNING, 500)
    assert (row.pages, bytes(row.name).rstrip(b"\0")) == (1, b"shell")
    gate.frame["ebx"] = 2
    with refusal(ErrorCode.NOT_FOUND):
        calls.process_information(gate.thread, gate.frame)


def test_the_idle_thread_is_listed_as_ready_while_another_one_runs(gate: Gate) -> None:
    idle = gate.scheduler.state.idle
    assert idle is not None
    for thread in (idle, gate.thread):
        gate.scheduler.start(thread)
    gate.frame["ebx"] = 0
    information(gate).process_information(gate.thread, gate.frame)
    row = ProcessInformation.from_buffer_copy(gate.user_memory().read(USER_HEAP, size_of(ProcessInformation)))
    assert (row.thread, row.state) == (idle.number, ThreadState.READY)
    waiting = gate.new_thread(gate.shell)
    gate.scheduler.note_wait(waiting, WaitReason.SLEEP)
    gate.frame["ebx"] = sorted(thread.number for thread in gate.records.threads.values()).index(waiting.number)
    information(gate).process_information(gate.thread, gate.frame)
    row = ProcessInformation.from_buffer_copy(gate.user_memory().read(USER_HEAP, size_of(ProcessInformation)))
    assert (row.thread, row.state) == (waiting.number, ThreadState.BLOCKED)


def test_a_servers_row_shows_its_slots_and_counters(gate: Gate) -> None:
    gate.take(2)
    gate.fields["tail"] = 9
    gate.slots.count_wait(gate.endpoint)
    calls = information(gate)
    gate.frame["ebx"] = 0
    calls.ipc_information(gate.thread, gate.frame)
    row = IpcInformation.from_buffer_copy(gate.user_memory().read(USER_HEAP, size_of(IpcInformation)))
    assert (row.requests, row.blocking_waits, row.unused, bytes(row.state)[:3]) == (9, 1, 0xFFFF_FFFC, b"\2\2\0")


def test_the_counters_and_the_clock_of_the_run_are_copied_out(gate: Gate) -> None:
    counts = Counts(3, 4, host_calls={"wake": 2, "system.open": 5, "server.lock_blocks": 6}, exceptions={"#PF": 7})
    gate.machine.ledger.counts = lambda: counts
    calls = information(gate)
    calls.ledger(gate.thread, gate.frame)
    found = LedgerInformation.from_buffer_copy(gate.user_memory().read(USER_HEAP, size_of(LedgerInformation)))
    assert (found.guest_instructions, found.host_calls, found.exceptions) == (7, 13, 7)
    assert (found.host_call[HostCall.WAKE - HOST_CALL_FIRST], found.system_call[SystemCall.OPEN]) == (2, 5)
    assert list(found.server_call)[:2] == [6, 0]
    gate.machine.clock.retired = 5 << 32 | 6
    calls.clock(gate.thread, gate.frame)
    assert (gate.frame["eax"], gate.frame["edx"]) == (6, 5)


# Calls of servers, and blocks that they see.


class Blocks:
    """A cache that holds all blocks; block n is n in every byte."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.locked: list[tuple[int, int]] = []

    async def read_locked(self, disk: int, numbers: list[int]) -> Locked:
        for index, number in enumerate(numbers):
            self.gate.guest.ram.high[index * 4096 : (index + 1) * 4096] = bytes([number]) * 4096
        self.locked += [(disk, number) for number in numbers]
        places = list(range(len(numbers)))
        return Locked(disk, numbers, [HIGH_MEMORY + place * 4096 for place in places], [], places)

    def unlock(self, keys: list[tuple[int, int]]) -> None:
        for key in keys:
            self.locked.remove(key)


@pytest.fixture
def blocks(gate: Gate) -> tuple[BlockWindows, Blocks]:
    gate.high.limit = gate.high.start + 4096 * 4096  # for a share this large
    cache = Blocks(gate)
    windows = Windows(gate.guest, gate.memory, Pins(gate.low, cache.unlock), gate.endpoints)
    return BlockWindows(cache, windows, gate.shares), cache


def test_a_server_sees_the_sectors_of_its_partition_and_zeros_for_its_neighbours(
    gate: Gate, blocks: tuple[BlockWindows, Blocks]
) -> None:
    windows, cache = blocks
    server, endpoint = gate.endpoint.process, gate.endpoint  # sectors 63 to 1062 of the disk
    address, _ = drive(windows.lock(server, endpoint, 0, 10))
    memory = gate.processes.memory_of(server)
    assert memory.read(address, 5120) == b"\7" * 512 + b"\x08" * 4096 + b"\x09" * 512
    assert memory.read(address - 7 * 512, 7 * 512) == bytes(7 * 512)
    assert (cache.locked, endpoint.locked_blocks) == ([(0x100, 8), (0x100, 9)], 3)
    with refusal(ErrorCode.BAD_ADDRESS):
        windows.unlock(server, address + 512)
    windows.unlock(server, address)
    assert (cache.locked, endpoint.locked_blocks, server.windows) == ([], 0, {})


@pytest.mark.parametrize(("first", "count"), [(0, 0), (1000, 1), (999, 2), (0, 2049), (1 << 63, 1)])
def test_locking_blocks_outside_the_partition_or_too_many_is_refused(
    gate: Gate, blocks: tuple[BlockWindows, Blocks], first: int, count: int
) -> None:
    gate.endpoint.sectors = 1000 if first else 5000
    with refusal(ErrorCode.BAD_ARGUMENT):
        drive(blocks[0].lock(gate.endpoint.process, gate.endpoint, first, count))
    assert (blocks[1].locked, gate.endpoint.locked_blocks) == ([], 0)


def test_a_refused_lock_of_blocks_is_not_counted_and_leaves_no_block_locked(
    gate: Gate, blocks: tuple[BlockWindows, Blocks]
) -> None:
    windows, cache = blocks
    kept = gate.low.allocate_several(gate.low.available)
    with refusal(ErrorCode.NO_MEMORY):  # the first block is only partly the partition's: it needs a copy
        drive(windows.lock(gate.endpoint.process, gate.endpoint, 0, 10))
    assert (cache.locked, gate.endpoint.locked_blocks) == ([], 0)
    for frame in kept:
        gate.low.release(frame)
    drive(windows.lock(gate.endpoint.process, gate.endpoint, 0, 10))


def test_server_calls_are_dispatched_and_errors_reach_their_caller(gate: Gate) -> None:
    calls: list[tuple[Any, ...]] = []

    async def lock(_process: Process, _endpoint: EndpointState, first: int, count: int) -> int:
        calls.append(("lock", first, count))
        raise Shortage(ErrorCode.NO_RESOURCES)

    gate.shell.endpoint = 0
    answered = ServerCalls(
        gate.guest,
        gate.threads,
        gate.endpoints,
        SimpleNamespace(changed=lambda endpoint, version: calls.append(("changed", endpoint.number, version))),
        SimpleNamespace(step=lambda _thread, message: message + 1),
        SimpleNamespace(lock=lock, unlock=lambda _process, address: calls.append(("unlock", address))),
    )
    gate.frame["ebx"], gate.frame["edx"], gate.frame["esi"], gate.frame["ecx"] = 5, 1, 2, 3
    waiting = answered.host_server(ServerCall.LOCK_BLOCKS)
    assert waiting is not None
    drive(waiting)
    assert (gate.frame["eax"], gate.frame["eflags"] & 1) == (ErrorCode.NO_RESOURCES, 1)
    answered.host_server(ServerCall.UNLOCK_BLOCKS)
    answered.host_server(ServerCall.DIRECTORY_CHANGED)
    answered.host_server(ServerCall.HOSTED_STEP)
    assert (gate.frame["eax"], gate.frame["eflags"] & 1) == (6, 0)
    assert calls == [("lock", 1 << 32 | 2, 3), ("unlock", 5), ("changed", 0, 5)]
    answered.host_server(ServerCall.REPLY_DATA)
    assert gate.frame["eax"] == ErrorCode.BAD_CALL
