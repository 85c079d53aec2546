"""Calls from ring 3 alone: dispatch, arguments, results and errors; the work is noted in lists, or done below."""

from __future__ import annotations

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from callgate.kernel.abi.calls import HostCall, SystemCall, WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import OpenFlags
from callgate.kernel.abi.memory import KERNEL_BASE, USER_HEAP
from callgate.kernel.abi.message import MESSAGE_DATA_SIZE
from callgate.kernel.abi.thread import ThreadState
from callgate.kernel.core.control_block import ControlBlock
from callgate.kernel.core.coroutines import Coroutines, routine
from callgate.kernel.core.errors import DiskError, GivenUp, KernelPanic, PolicyError, Shortage
from callgate.kernel.core.records import Process, Thread
from callgate.kernel.gates.file_calls import FileCalls
from callgate.kernel.gates.host_calls import HostCalls
from callgate.kernel.gates.information_calls import InformationCalls
from callgate.kernel.gates.process_calls import ProcessCalls
from callgate.kernel.gates.system_calls import Park, SystemCalls
from callgate.kernel.gates.volume_information import VolumeQueries
from callgate.kernel.memory.user_memory import BadAddress
from callgate.kernel.tasks.processes import KILLED_EXIT_CODE
from plain_gate import FILES, Gate
from plain_guest import drive, refusal


@pytest.fixture
def gate() -> Gate:
    return Gate()


# Dispatch.


def test_a_failed_system_call_sets_eax_and_the_carry_and_a_good_one_clears_the_carry(gate: Gate) -> None:
    def refuse(_thread: Thread, _frame: ControlBlock) -> None:
        raise Shortage(ErrorCode.NO_MEMORY)

    calls = SystemCalls(gate.guest, gate.threads, {1: refuse, 2: lambda _thread, frame: frame.__setitem__("eax", 7)})
    found = []
    for number in (1, 2, 3):
        gate.frame["eax"] = 0
        assert calls.host_system(number) is None
        found.append((gate.frame["eax"], gate.frame["eflags"] & 1))
    assert found == [(ErrorCode.NO_MEMORY, 1), (7, 0), (ErrorCode.BAD_CALL, 1)]
    gate.thread.killed = True
    calls.host_system(2)
    assert gate.frame["eax"] == ErrorCode.KILLED


def test_a_call_that_parks_keeps_no_policy_state_and_hands_its_reason_to_the_stub(gate: Gate) -> None:
    def wait(_thread: Thread, _frame: ControlBlock) -> None:
        raise Park(WaitReason.CHILD)

    calls = SystemCalls(gate.guest, gate.threads, {1: wait, 2: lambda _thread, _frame: None})
    assert calls.host_system(1) is None
    assert gate.threads.block(gate.thread)["wait_again"] == WaitReason.CHILD
    calls.host_system(2)
    assert gate.threads.block(gate.thread)["wait_again"] == WaitReason.NOTHING


def test_an_error_of_a_call_that_awaits_reaches_its_caller_as_well(gate: Gate) -> None:
    async def later(_thread: Thread, _frame: ControlBlock) -> None:
        await routine("block")
        raise DiskError(ErrorCode.IO_ERROR)

    waiting = SystemCalls(gate.guest, gate.threads, {1: later}).host_system(1)
    assert waiting is not None
    drive(waiting)
    assert (gate.frame["eax"], gate.frame["eflags"] & 1) == (ErrorCode.IO_ERROR, 1)


def test_host_calls_that_await_run_as_coroutines_and_a_panic_says_where(gate: Gate) -> None:
    coroutines = Coroutines(gate.guest.words, gate.guest.address, lambda: gate.thread.tcb)
    seen: list[int] = []

    async def later() -> None:
        await routine("block")

    def answer(value: int) -> Coroutine[Any, Any, None] | None:
        return later() if value else None

    calls = HostCalls(gate.guest, coroutines)
    for at_once, later_ones in (({HostCall.SYSTEM: seen.append}, {}), ({}, {HostCall.WAKE: answer})):
        with pytest.raises(ValueError, match=r"not answered as HostCall\.answer says: (SYSTEM|WAKE)$"):
            calls.register(at_once, later_ones)
    calls.register({HostCall.WAKE: seen.append}, {HostCall.SYSTEM: answer})
    answers = gate.machine.answers
    answers[HostCall.WAKE](5)
    answers[HostCall.SYSTEM](0)
    assert (seen, coroutines.alive) == ([5], 0)
    answers[HostCall.SYSTEM](1)
    assert coroutines.alive == 1
    coroutines.close()
    answers[HostCall.BOOT_DONE](0)
    assert gate.machine.ledger.boots == 1
    gate.machine.cpu.eip = gate.guest.address("switch")
    with pytest.raises(KernelPanic, match="code 0x7, at switch"):
        answers[HostCall.PANIC](7)


# The arguments of calls, and their results.


@pytest.mark.parametrize(
    ("directory", "given", "found"),
    [
        (b"/d0/a", b"b/../c", b"/d0/a/c"),
        (b"/d0/a", b"/x//y", b"/x//y"),
        (b"/", b"../..", b"/"),
        (b"", b"b", b"b"),
        (b"/d0", b"b/", b"/d0/b/"),
        (b"/d0", b"", b""),
    ],
)
def test_a_path_is_made_absolute_in_the_page_where_machine_code_reads_it(
    gate: Gate, directory: bytes, given: bytes, found: bytes
) -> None:
    gate.shell.directory = directory
    gate.path(given)
    path, address = gate.caller.path(gate.thread, gate.frame)
    assert (path, gate.guest.ram.read(address - KERNEL_BASE, len(found))) == (found, found)


def test_a_path_with_a_zero_byte_or_one_that_is_too_long_when_absolute_is_refused(gate: Gate) -> None:
    gate.path(b"a\0b")
    with refusal(ErrorCode.BAD_ARGUMENT):
        gate.caller.path(gate.thread, gate.frame)
    gate.shell.directory = b"/" + b"d" * 500
    gate.path(b"x" * (MESSAGE_DATA_SIZE - 503))
    assert len(gate.caller.path(gate.thread, gate.frame)[0]) == MESSAGE_DATA_SIZE - 1
    gate.path(b"x" * (MESSAGE_DATA_SIZE - 502))
    with refusal(ErrorCode.NAME_TOO_LONG):
        gate.caller.path(gate.thread, gate.frame)


def test_names_after_a_path_come_after_it_in_the_page_too_and_all_of_it_has_a_limit(gate: Gate) -> None:
    gate.shell.directory = b"/d0/a"
    for given, path, names in (
        (b"../b\0x\0../y", b"/d0/b", b"\0x\0../y"),
        (b"/d1\0", b"/d1", b"\0"),
        (b"c", b"/d0/a/c", b""),
    ):
        gate.path(given)
        found = gate.caller.path_and_names(gate.thread, gate.frame)
        assert found[:2] == (path, names)
        assert gate.guest.ram.read(found[2] - KERNEL_BASE, len(path + names)) == path + names
    gate.path(b"c\0" + b"x" * (MESSAGE_DATA_SIZE - 9))
    assert sum(map(len, gate.caller.path_and_names(gate.thread, gate.frame)[:2])) == MESSAGE_DATA_SIZE - 1
    gate.path(b"c\0" + b"x" * (MESSAGE_DATA_SIZE - 8))
    with refusal(ErrorCode.NAME_TOO_LONG):
        gate.caller.path_and_names(gate.thread, gate.frame)


def test_a_string_in_an_unmapped_page_of_a_file_is_fetched_and_elsewhere_refused(gate: Gate) -> None:
    text, calls = drive(gate.caller.string(gate.shell, FILES + 5, 100))
    assert (text, [call.name for call in calls]) == (b"", ["block"])
    with pytest.raises(BadAddress):
        drive(gate.caller.string(gate.shell, 0x1000, 100))
    assert gate.asked == [("fault", FILES + 5), ("fault", 0x1000)]


def test_a_result_is_written_to_memory_at_once_or_after_a_page_of_a_file_has_come(gate: Gate) -> None:
    memory = gate.user_memory()
    assert gate.caller.give(gate.shell, USER_HEAP + 4, b"result") is None
    assert memory.read(USER_HEAP + 4, 6) == b"result"
    with pytest.raises(BadAddress):
        gate.caller.give(gate.shell, 0x1000, b"result")
    allowed: list[int] = []

    def allow(process: Process, _opened: object, _file: object, address: int) -> None:
        allowed.append(address)
        gate.processes.give_page(process, address & -4096, 0x8000_0000_0000_0007)

    gate.window = (SimpleNamespace(writable=False), None)
    gate.reading.mapping = SimpleNamespace(tables=gate.tables, writing=SimpleNamespace(allow=allow))
    later = gate.caller.give(gate.shell, FILES + 4094, b"four")
    assert later is not None
    drive(later)
    assert (allowed, memory.read(FILES + 4094, 4)) == ([FILES + 4094, FILES + 4096], b"four")


# Processes.


@pytest.fixture
def process_calls(gate: Gate) -> ProcessCalls:
    async def load(path: bytes, address: int, arguments: bytes, *, parent: int) -> Process:
        gate.asked.append(("load", path, arguments, parent))
        return gate.new_process("child", parent)

    return ProcessCalls(gate.caller, gate.processes, SimpleNamespace(load=load), gate.servers)


def test_a_child_is_started_waited_for_and_its_exit_code_taken_once(gate: Gate, process_calls: ProcessCalls) -> None:
    gate.user_memory().write(USER_HEAP, b"cat x\0")
    gate.path(b"/rom/cat")
    gate.frame["edi"] = USER_HEAP
    drive(process_calls.start_process(gate.thread, gate.frame))
    assert gate.asked == [("load", b"/rom/cat", b"cat x", gate.shell.number)]
    child = gate.records.processes[gate.frame["eax"]]
    gate.frame["ebx"] = child.number
    with pytest.raises(Park):
        process_calls.wait_process(gate.thread, gate.frame)
    assert child.waiter == gate.thread.selector
    child.exit_code = 3
    gate.processes.clean_up(child)
    process_calls.wait_process(gate.thread, gate.frame)
    assert gate.frame["eax"] == 3
    with refusal(ErrorCode.NO_CHILD):
        process_calls.wait_process(gate.thread, gate.frame)


def test_a_process_can_kill_only_its_descendants(gate: Gate, process_calls: ProcessCalls) -> None:
    child = gate.new_process()
    grandchild = gate.new_process("grandchild", child.number)
    stranger = gate.new_process("stranger", 0)
    orphan = gate.new_process("orphan", 0)
    orphan.parent = 999  # which is gone
    for process, descends in (
        (grandchild, True),
        (stranger, False),
        (orphan, False),
        (gate.shell, False),
        (gate.endpoint.process, False),
    ):
        gate.frame["ebx"] = process.number
        if descends:
            process_calls.kill_process(gate.thread, gate.frame)
            assert process.exit_code == KILLED_EXIT_CODE
            continue
        with refusal(ErrorCode.NO_CHILD):
            process_calls.kill_process(gate.thread, gate.frame)
        assert not process.dying


def test_a_sleep_lasts_as_long_as_asked_from_the_first_time_on(gate: Gate, process_calls: ProcessCalls) -> None:
    gate.now(100)
    gate.frame["ecx"], gate.frame["edx"] = 50, 1
    for clock in (100, 149 + (1 << 32)):
        gate.now(clock)
        with pytest.raises(Park):
            process_calls.sleep(gate.thread, gate.frame)
    gate.now(150 + (1 << 32))
    process_calls.sleep(gate.thread, gate.frame)
    assert gate.thread.wakes_at is None


def test_a_thread_of_a_server_serves_its_endpoint_and_addresses_of_the_kernel_are_refused(
    gate: Gate, process_calls: ProcessCalls
) -> None:
    thread = gate.new_thread(gate.endpoint.process)
    gate.frame["ebx"], gate.frame["ecx"] = 0x40_0000, 0xBFFF_0000
    process_calls.start_thread(thread, gate.frame)
    new = gate.endpoint.process.threads[-1]
    assert (gate.frame["eax"], gate.endpoint.servers) == (new.number, [new.selector])
    assert gate.scheduler.state_of(new) is ThreadState.READY
    for register, value in (("ebx", 0xC000_0000), ("ecx", 0xC000_0001)):
        gate.frame["ebx"], gate.frame["ecx"] = 0x40_0000, 0xC000_0000
        gate.frame[register] = value
        with refusal(ErrorCode.BAD_ADDRESS):
            process_calls.start_thread(thread, gate.frame)


def test_every_system_call_that_policy_answers_is_in_one_table(gate: Gate, process_calls: ProcessCalls) -> None:
    files = FileCalls(gate.caller, SimpleNamespace(), gate.reading, SimpleNamespace())
    information = InformationCalls(gate.caller, gate.records, gate.slots, VolumeQueries(gate.guest, gate.requests))
    numbers = [*process_calls.table, *files.table, *information.table]
    by_machine_code = {SystemCall.WRITE, SystemCall.READ_CHARACTER, SystemCall.TAKE_BREAK}
    assert sorted(numbers) == sorted(set(SystemCall) - by_machine_code)


# Files.


class OpenResults:
    """The results of OPEN and LOCK_DIRECTORY."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.refuses: PolicyError | None = None  # what MAP_FILE ends with
        self.made = SimpleNamespace(page=0x4000_0000, window=0x4000_1000)

    async def open(self, _process: Process, path: bytes, _address: int, flags: int) -> tuple[int, Any, Any]:
        self.calls.append((path, flags))
        return (
            4,
            self.made,
            SimpleNamespace(attributes=32, size=7 << 32 | 9),
        )

    async def map(self, _process: Process, handle: int, position: int, wanted: int) -> tuple[int, int, int]:
        self.calls.append((handle, position, wanted))
        if self.refuses is not None:
            raise self.refuses
        return 0x4000_1005, 11, 2

    def close(self, _process: Process, handle: int) -> None:
        self.calls.append(("close", handle))

    async def link_target(self, path: bytes, names: bytes, _address: int) -> bytes:
        return b"to/" + path + names


@pytest.fixture
def file_calls(gate: Gate) -> tuple[FileCalls, OpenResults]:
    opened = OpenResults()
    return FileCalls(gate.caller, opened, opened, opened), opened


def registers(gate: Gate, *names: str) -> tuple[int, ...]:
    return tuple(gate.frame[name] for name in names)


def test_open_and_map_file_take_and_return_the_registers_that_the_abi_names(
    gate: Gate, file_calls: tuple[FileCalls, OpenResults]
) -> None:
    calls, opened = file_calls
    gate.path(b"/d0/f")
    gate.frame["edx"] = 1
    drive(calls.open(gate.thread, gate.frame))
    assert registers(gate, "eax", "ebx", "ecx", "edx", "esi", "edi") == (4, 32, 9, 7, 0x4000_0000, 0x4000_1000)
    gate.frame["ebx"], gate.frame["edx"], gate.frame["esi"], gate.frame["ecx"] = 4, 2, 3, 100
    drive(calls.map_file(gate.thread, gate.frame))
    assert registers(gate, "eax", "ecx", "edx") == (0x4000_1005, 11, 2)
    assert opened.calls == [(b"/d0/f", 1), (4, 2 << 32 | 3, 100)]
    gate.path(b"/d0/f")
    gate.frame["edx"] = 4
    with refusal(ErrorCode.BAD_ARGUMENT):
        drive(calls.open(gate.thread, gate.frame))


@pytest.mark.parametrize(
    ("error", "still", "calls"),
    [
        (GivenUp(ErrorCode.INTERRUPTED), True, [("close", 4)]),
        (GivenUp(ErrorCode.INTERRUPTED), False, []),
        (DiskError(ErrorCode.IO_ERROR), True, []),
    ],
)
def test_an_open_with_the_first_data_ends_only_if_its_thread_must_not_wait_and_leaves_no_file_then(
    gate: Gate, file_calls: tuple[FileCalls, OpenResults], error: PolicyError, still: bool, calls: list[tuple[Any, ...]]
) -> None:
    opened = file_calls[1]
    opened.refuses = error
    gate.shell.files[4] = opened.made if still else SimpleNamespace()
    gate.path(b"/d0/f")
    gate.frame["edx"] = OpenFlags.FROM_START
    if isinstance(error, GivenUp):
        with refusal(error.code):
            drive(file_calls[0].open(gate.thread, gate.frame))
    else:
        drive(file_calls[0].open(gate.thread, gate.frame))
    assert opened.calls == [(b"/d0/f", OpenFlags.FROM_START), (4, 0, 1), *calls]
    gate.shell.files.clear()


def test_the_target_of_a_link_is_returned_if_there_is_room_for_all_of_it(
    gate: Gate, file_calls: tuple[FileCalls, OpenResults]
) -> None:
    memory = gate.user_memory()
    gate.path(b"/d0/l")
    gate.frame["edi"], gate.frame["edx"] = USER_HEAP, 8
    drive(file_calls[0].read_link(gate.thread, gate.frame))
    assert (gate.frame["eax"], memory.read(USER_HEAP, 9)) == (8, b"to//d0/l\0")
    gate.frame["edx"] = 7
    with refusal(ErrorCode.NAME_TOO_LONG):
        drive(file_calls[0].read_link(gate.thread, gate.frame))


def test_a_current_directory_is_absolute_and_has_at_most_511_bytes(
    gate: Gate, file_calls: tuple[FileCalls, OpenResults]
) -> None:
    for text, code in ((b"a", ErrorCode.BAD_ARGUMENT), (b"/" + b"x" * 511, ErrorCode.NAME_TOO_LONG)):
        gate.path(text)
        with refusal(code):
            file_calls[0].set_directory(gate.thread, gate.frame)
    gate.path(b"/" + b"x" * 510)
    file_calls[0].set_directory(gate.thread, gate.frame)
    assert gate.shell.directory == b"/" + b"x" * 510
