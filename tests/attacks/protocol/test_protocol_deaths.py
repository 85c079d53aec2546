"""Programs that try to live on after they have been killed: each has ended within 10,000 instructions."""

from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation, ServerCall, SystemCall, WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.thread import GateFrame, ThreadControlBlock
from callgate.kernel.core.control_block import word
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.core.records import PRIORITY_USER, Process
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes
from callgate.kernel.watching.leaks import leaks
from callgate.server.gate import lock_blocks
from callgate.server.hosted import operation
from callgate.server.message import Reply, Request

Arenas = Callable[..., Any]
ATTACKS = ("write_window", "path_in_window", "start_threads", "exit_and_start", "start_child")
BOUND = 10_000  # instructions from the kill to the end of the last thread
KILLED = 137
FAR = 1024  # a sector that mounting does not read


class Locking(synthetic.Synthetic):
    """Reads its disk far from what was read to recognise it, before it answers anything."""

    @operation(Operation.VOLUME)
    async def volume(self, request: Request) -> Reply:
        await lock_blocks(FAR, 1)
        return await super().volume(request)


def attention(made: Any) -> None:
    """Interrupt a CPU that may be halted, so that it sees changes from outside."""
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)


def kill(made: Any, process: Process) -> None:
    """Kill a process as KILL_PROCESS does, with a CPU that looks at it; it must be gone within BOUND instructions."""
    made.kernel.processes.kill(process, KILLED, "killed by the test")
    attention(made)
    made.run(fuel=BOUND)
    assert process.threads == []


def begin(made: Any, attack: str) -> Process:
    """Have the volumes mounted, then start an attacker."""
    made.run()
    process: Process = made.start("deaths", bytes([ATTACKS.index(attack) + 1]))
    attention(made)
    return process


def waits_for_file(made: Any, process: Process) -> bool:
    return bool(made.system.kernel.scheduler.reason_of(process.threads[0]) is WaitReason.FILE)


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("unplugged", [False, True])
@pytest.mark.parametrize("attack", ["write_window", "path_in_window"])
def test_a_thread_killed_while_the_kernel_reads_its_file_window_does_not_fault_for_ever(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, attack: str, unplugged: bool
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    synthetic.Synthetic.files = {"a": synthetic.Layout(5000, [(64, 10)])}
    made = arena(MemoryMedium(synthetic.disk(100)), latency=Latency(command=500_000))
    attacker = begin(made, attack)
    for _ in range(1000):
        if attacker.threads and waits_for_file(made, attacker):
            break
        made.run(fuel=20)
    else:
        pytest.fail(f"the attacker does not wait: {attacker.exit_code}, {made.log}")
    if unplugged:
        made.system.unplug(0)
    kill(made, attacker)
    made.run()
    made.assert_unharmed()


def test_a_process_killed_at_any_instruction_of_start_thread_has_no_thread_left(arena: Arenas) -> None:
    made = arena()
    attacker = begin(made, "start_threads")
    made.system.run(until="system_gate")
    kept, number = made.system.snapshot(), attacker.number
    most = 0
    for steps in range(60):
        made.system.restore(kept)
        made.system.machine.step(steps)
        process = made.kernel.state.tasks.processes[number]
        most = max(most, len(process.threads))
        kill(made, process)
        made.run()
        made.assert_unharmed()
    assert most > 1


def test_exit_ends_a_process_whose_other_thread_is_preempted_at_any_instruction_of_start_thread(arena: Arenas) -> None:
    made = arena()
    attacker = begin(made, "exit_and_start")
    made.system.run(until=made.label("deaths", "start_threads"))
    kept, number = made.system.snapshot(), attacker.number
    most = 0
    for steps in range(50):
        made.system.restore(kept)
        made.system.machine.step(steps)
        process = made.kernel.state.tasks.processes[number]
        most = max(most, len(process.threads))
        made.kernel.scheduler.request_yield()
        attention(made)
        made.run(fuel=BOUND)
        assert process.exit_code == 0, steps
        assert process.threads == [], steps
        made.assert_unharmed()
    assert most > 2


def test_no_thread_is_made_in_a_process_that_dies(arena: Arenas) -> None:
    made = arena()
    attacker = begin(made, "start_threads")
    kernel = made.kernel
    kernel.processes.kill(attacker, KILLED)
    used = kernel.memory.low.used
    with pytest.raises(PolicyError) as refused:
        kernel.threads.create_user(attacker, "late", PRIORITY_USER, 0, 0)
    assert refused.value.code is ErrorCode.KILLED
    assert kernel.memory.low.used == used
    attention(made)
    made.run()
    made.assert_unharmed()


@pytest.mark.timeout(30)
def test_a_server_killed_while_it_waits_for_the_disk_does_not_wait_for_it(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Locking])
    made = arena(MemoryMedium(synthetic.disk(FAR + 8)), latency=Latency(command=500_000))
    kernel = made.kernel

    server = kernel.state.tasks.processes[0]
    while server.name != "hosted:d0":
        assert made.system.run(until="disk.submit").reason == "until"
        made.system.machine.step()
        server = kernel.scheduler.current.process
    kernel.servers.kill(server, "killed by the test")
    attention(made)
    for _ in range(BOUND // 20):
        made.run(fuel=20)
        if not server.threads:
            break
    assert server.threads == []
    assert kernel.disk_requests.state.running, "the disk is still at work"
    made.run()
    assert leaks(kernel) == []


def test_no_process_is_made_for_a_parent_that_dies(arena: Arenas) -> None:
    made = arena()
    attacker = begin(made, "start_threads")
    kernel = made.kernel
    kernel.processes.kill(attacker, KILLED)
    used = kernel.memory.low.used
    with pytest.raises(PolicyError) as refused:
        kernel.processes.create("late", parent=attacker.number)
    assert refused.value.code is ErrorCode.KILLED
    assert kernel.memory.low.used == used
    attention(made)
    made.run()
    made.assert_unharmed()


@pytest.mark.breaks_invariants
@pytest.mark.parametrize("call", [SystemCall.ALLOCATE, SystemCall.OPEN, ServerCall.DIRECTORY_CHANGED])
def test_a_call_of_a_thread_that_has_been_killed_is_not_made(arena: Arenas, call: SystemCall | ServerCall) -> None:
    made = arena()
    made.run()
    kernel = made.kernel
    thread = kernel.state.endpoints.by_number[0].process.threads[0]
    kernel.scheduler.start(thread)
    thread.killed = True
    frame = thread.stack - size_of(GateFrame)
    kernel.guest.words[thread.tcb + word(ThreadControlBlock, "frame")] = frame
    host = kernel.system_calls.host_system if isinstance(call, SystemCall) else kernel.server_calls.host_server
    pages = dict(thread.process.pages)
    assert host(call) is None
    assert kernel.threads.overlay(thread, GateFrame, frame)["eax"] == ErrorCode.KILLED
    assert thread.process.pages == pages


def test_no_child_is_made_for_a_parent_that_is_dead(arena: Arenas) -> None:
    made = arena()
    attacker = begin(made, "start_child")
    made.system.run(until="system_gate")
    kept, number = made.system.snapshot(), attacker.number
    made.run(fuel=50_000)
    born = next(process for process in made.kernel.state.tasks.processes.values() if process.parent == number)
    last = made.kernel.state.tasks.next_process
    assert born.number == last - 1
    for steps in range(0, 4000, 160):
        made.system.restore(kept)
        made.system.machine.step(steps)
        process = made.kernel.state.tasks.processes[number]
        before = made.kernel.state.tasks.next_process
        kill(made, process)
        assert made.kernel.state.tasks.next_process == before, steps
        made.run()
        made.assert_unharmed()
