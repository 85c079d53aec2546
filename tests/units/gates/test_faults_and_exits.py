"""The start and the end of programs alone: loading, faults, ends of threads."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE, USER_STACK_TOP
from callgate.kernel.abi.thread import KERNEL_STACK_SIZE, ThreadState, TrapFrame
from callgate.kernel.core.errors import DiskError, GivenUp, KernelPanic, PolicyError
from callgate.kernel.core.records import EndpointState, Process, Thread
from callgate.kernel.gates.exits import Exits
from callgate.kernel.gates.faults import Faults
from callgate.kernel.gates.starting import Programs
from plain_gate import Gate
from plain_guest import drive, refusal
from plain_servers import PROGRAM


@pytest.fixture
def gate() -> Gate:
    return Gate()


# Starting programs.


def test_a_program_that_cannot_be_loaded_leaves_no_process(gate: Gate) -> None:
    async def read_all(endpoint: EndpointState, where: tuple[int, int], limit: int, parent: int) -> bytes:
        gate.asked.append((endpoint.name, where, limit, parent))
        return b"no program"

    programs = Programs(gate.records, gate.processes, gate.endpoints, read_all)
    processes = dict(gate.records.processes)
    with refusal(ErrorCode.NOT_EXECUTABLE):
        drive(programs.load(b"/d0p1/bin/x", KERNEL_BASE + 0x5000, b"", parent=1))
    assert gate.asked == [("d0p1", (KERNEL_BASE + 0x5006, 5), 8 << 20, 1)]
    with refusal(ErrorCode.IS_DIRECTORY):
        drive(programs.load(b"/", KERNEL_BASE, b"", parent=1))
    with refusal(ErrorCode.BAD_ARGUMENT):
        programs.start(PROGRAM, "x", b"a" * 4096, 1)
    assert gate.records.processes == processes
    process = programs.start(PROGRAM, "x", b"a" * 4095, 1)
    assert (process.parent, gate.scheduler.state_of(process.threads[0])) == (1, ThreadState.READY)


# Ends.


class EndsOfThreads:
    """The effects of the ends of threads, in lists."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.calls: list[str] = []
        self.exits = Exits(
            gate.records,
            gate.scheduler,
            gate.threads,
            gate.processes,
            SimpleNamespace(thread_ended=lambda thread, _process: self.calls.append(f"server {thread.number}")),
            SimpleNamespace(forget=lambda thread: self.calls.append(f"handler {thread.number}")),
            lambda: self.calls.append("stop"),
        )

    def end(self, thread: Thread) -> None:
        self.gate.run(thread)
        self.exits.host_exit_thread(0)


def test_a_process_is_cleaned_up_with_its_last_thread_and_reaped_once_another_thread_runs(gate: Gate) -> None:
    ends = EndsOfThreads(gate)
    orphan = gate.new_process("orphan", 0)
    first, last = gate.new_thread(orphan), gate.new_thread(orphan)
    ends.end(first)
    assert (gate.let_go, orphan.threads) == ([], [last])
    ends.end(last)
    assert (gate.let_go, ends.calls) == ([orphan], [f"handler {first.number}", f"handler {last.number}"])
    assert gate.scheduler.current is gate.scheduler.state.idle
    assert orphan.number in gate.records.processes  # the CPU is still in its page tables
    gate.run(gate.thread)
    ends.exits.reap_orphans()
    assert orphan.number not in gate.records.processes


def test_the_end_of_the_shell_ends_the_system_and_a_childs_exit_code_is_kept_for_its_parent(gate: Gate) -> None:
    ends = EndsOfThreads(gate)
    child = gate.new_process()
    ends.end(gate.new_thread(child))
    gate.run(gate.thread)
    ends.exits.reap_orphans()
    assert (child.number in gate.records.processes, ends.calls[1:]) == (True, [])
    gate.processes.kill(gate.shell, 4)
    ends.end(gate.thread)
    assert (ends.calls[-1], gate.records.exit_code) == ("stop", 4)


def test_the_end_of_a_servers_thread_is_reported_before_its_process_is_gone(gate: Gate) -> None:
    ends = EndsOfThreads(gate)
    thread = gate.new_thread(gate.endpoint.process)
    ends.end(thread)
    assert ends.calls == [f"handler {thread.number}", f"server {thread.number}"]


# Faults.


class Trap:
    """An exception of the shell's thread; calls of servers, reading and writing are noted in lists."""

    def __init__(self, gate: Gate, *, ring: int = 3) -> None:
        self.gate = gate
        self.killed: list[str] = []
        self.found: object = None
        self.refused: PolicyError | None = None
        self.allowed: list[int] = []
        servers = SimpleNamespace(kill=lambda _process, reason: self.killed.append(reason))
        reading = SimpleNamespace(
            at=lambda _process, _address: self.found,
            fault=self.fault,
            mapping=SimpleNamespace(writing=SimpleNamespace(allow=self.allow)),
        )
        self.faults = Faults(gate.guest, gate.threads, gate.processes, servers, reading, gate.fpu, gate.log)
        self.address = gate.thread.stack - 200
        self.frame = gate.threads.overlay(gate.thread, TrapFrame, self.address)
        self.frame["cs"], self.frame["eip"] = 0x18 | ring, 0x40_1234
        self.frame["eflags"] = 0x202

    async def fault(self, _process: Process, _address: int) -> bool:
        if self.refused is not None:
            raise self.refused
        return True

    def allow(self, _process: Process, _opened: object, _file: object, address: int) -> None:
        if self.refused is not None:
            raise self.refused
        self.allowed.append(address)

    def raise_(self, vector: int, code: int = 0, address: int = 0) -> None:
        self.frame["vector"], self.frame["error_code"], self.gate.machine.cpu.cr2 = vector, code, address
        waiting = self.faults.host_exception(self.address)
        if waiting is not None:
            drive(waiting)


@pytest.mark.parametrize("away", [-KERNEL_STACK_SIZE - PAGE_SIZE, PAGE_SIZE])
def test_a_frame_that_is_not_on_the_threads_stack_is_a_panic(gate: Gate, away: int) -> None:
    trap = Trap(gate)
    with pytest.raises(KernelPanic, match=f"a frame at {trap.address + away:#010x} is not on the stack of thread"):
        gate.threads.overlay(gate.thread, TrapFrame, trap.address + away)


def test_a_touch_of_the_stack_is_repaired_and_any_other_ends_the_process_with_a_report(gate: Gate) -> None:
    trap = Trap(gate)
    trap.raise_(14, 6, USER_STACK_TOP - 8)
    assert (gate.lines, USER_STACK_TOP - 4096 in gate.shell.pages) == ([], True)
    trap.raise_(14, 6, 0x1000)
    assert gate.shell.exit_code == 128 + 11
    assert gate.lines[0].startswith(
        "process 1 (shell) ended by #PF page fault: write of 0x00001000, page not present, at 0x00401234\n  eax="
    )


@pytest.mark.parametrize(
    ("vector", "code", "words"),
    [
        (0, 0, "#DE divide error, error code 0x0000"),
        (13, 0x18, "#GP general protection, error code 0x0018"),
        (30, 0, "vector 30"),
    ],
)
def test_an_exception_is_named_as_the_manual_names_it(gate: Gate, vector: int, code: int, words: str) -> None:
    Trap(gate).raise_(vector, code)
    assert f"ended by {words}" in gate.lines[0]


def test_a_fault_of_a_server_ends_the_server(gate: Gate) -> None:
    gate.shell.endpoint = 0
    trap = Trap(gate)
    trap.raise_(6)
    assert (trap.killed, gate.shell.dying) == (["#UD invalid opcode, error code 0x0000, at 0x00401234"], False)


def test_a_fault_of_ring_0_on_user_memory_resumes_at_the_address_of_the_gate_and_any_other_is_a_panic(
    gate: Gate,
) -> None:
    block = gate.threads.block(gate.thread)
    block["fault_resume"] = 0xC010_0100
    trap = Trap(gate, ring=0)
    trap.raise_(14, 0, 0x1000)
    assert (trap.frame["eip"], block["fault_error"]) == (0xC010_0100, ErrorCode.BAD_ADDRESS)
    with pytest.raises(KernelPanic):
        trap.raise_(14, 0, 0xC000_0000)
    with pytest.raises(KernelPanic):
        trap.raise_(0)  # which has no address
    block["fault_resume"] = 0
    with pytest.raises(KernelPanic):
        trap.raise_(14, 0, 0x1000)


def test_an_unavailable_page_of_a_file_resumes_at_the_handler_of_the_code_or_ends_the_process(
    gate: Gate,
) -> None:
    trap = Trap(gate)
    trap.found = (SimpleNamespace(writable=False), None)
    trap.raise_(14, 4, 0x5000_0000)
    assert trap.frame["eip"] == 0x40_1234  # the data were provided: the instruction is retried
    trap.refused = DiskError(ErrorCode.UNPLUGGED)
    gate.shell.file_handler = (0x40_9000, 0x40_1000, 0x40_2000)
    trap.raise_(14, 4, 0x5000_0000)
    assert (trap.frame["eip"], trap.frame["eax"]) == (0x40_9000, ErrorCode.UNPLUGGED)
    trap.raise_(14, 4, 0x5000_0000)  # from the handler, which has no handler itself
    assert "the disk was removed (a page of a file)" in gate.lines[0]


def test_an_exception_other_than_a_page_fault_is_none_of_a_file(gate: Gate) -> None:
    trap = Trap(gate)
    trap.found = (SimpleNamespace(writable=True), None)
    trap.raise_(0, 2)
    assert "#DE divide error" in gate.lines[0]
    assert trap.allowed == []


def test_a_thread_that_is_killed_while_its_page_is_fetched_has_no_fault(gate: Gate) -> None:
    trap = Trap(gate)
    trap.found = (SimpleNamespace(writable=False), None)
    trap.refused = GivenUp(ErrorCode.KILLED)
    gate.shell.file_handler = (0x40_9000, 0x40_1000, 0x40_2000)
    trap.frame["vector"], trap.frame["error_code"], gate.machine.cpu.cr2 = 14, 4, 0x5000_0000
    waiting = trap.faults.host_exception(trap.address)
    assert waiting is not None
    gate.thread.killed = True
    drive(waiting)
    assert (trap.frame["eip"], gate.lines) == (0x40_1234, [])


@pytest.mark.parametrize("handled", [False, True])
def test_an_interrupted_access_to_a_file_is_retried_unless_its_code_has_a_handler(gate: Gate, handled: bool) -> None:
    trap = Trap(gate)
    trap.found = (SimpleNamespace(writable=False), None)
    trap.refused = GivenUp(ErrorCode.INTERRUPTED)
    if handled:
        gate.shell.file_handler = (0x40_9000, 0x40_1000, 0x40_2000)
    trap.raise_(14, 4, 0x5000_0000)
    assert (trap.frame["eip"], gate.lines) == (0x40_9000 if handled else 0x40_1234, [])


def test_a_write_to_a_file_requests_a_writable_page(gate: Gate) -> None:
    trap = Trap(gate)
    trap.found = (SimpleNamespace(writable=True), None)
    trap.raise_(14, 7, 0x5000_0010)
    assert (trap.allowed, gate.lines) == ([0x5000_0010], [])


def test_a_page_fault_of_a_killed_thread_maps_no_page(gate: Gate) -> None:
    trap = Trap(gate)
    gate.thread.killed = True
    trap.raise_(14, 6, USER_STACK_TOP - 8)
    assert (gate.shell.pages, gate.lines) == ({}, [])


def test_single_stepping_into_a_gate_costs_the_kernel_one_exception(gate: Gate) -> None:
    trap = Trap(gate, ring=0)
    for name, left in (("system_gate", 0x302), ("block", 0x202)):
        trap.frame["eflags"], trap.frame["eip"] = 0x302, gate.guest.address(name)
        trap.raise_(1)
        assert trap.frame["eflags"] == left


def test_an_exception_that_makes_other_threads_ready_lets_them_run(gate: Gate) -> None:
    trap = Trap(gate)
    gate.guest.kernel_words["preempt"] = 1
    trap.frame["vector"], trap.frame["error_code"], gate.machine.cpu.cr2 = 14, 6, USER_STACK_TOP - 8
    waiting = trap.faults.host_exception(trap.address)
    assert waiting is not None
    assert [call.name for call in drive(waiting)[1]] == ["yield"]
