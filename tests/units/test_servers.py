"""Servers alone: mounting several at once, running hosted handlers step by step, ending servers."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from callgate.kernel.abi.calls import ServerCall, SystemCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import USER_HEAP, USER_STACK_TOP
from callgate.kernel.abi.selectors import MAX_THREADS
from callgate.kernel.abi.thread import HostedBlock, HostedGate, ThreadState
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.programs.rom_image import DIRECTORY, EXECUTABLE, children, directory_names
from callgate.kernel.servers import lifecycle
from callgate.kernel.servers.hosted_servers import ALARM, BYTES_LIMIT, Alarm, HandlerStuck, time_limit
from callgate.kernel.servers.mounting import GRACE, MOUNT_DEADLINE, Report
from callgate.kernel.tasks.processes import KILLED_EXIT_CODE
from callgate.server.errors import FileSystemError
from callgate.server.gate import GateCall
from callgate.server.hosted import HostedServer, VolumeGeometry
from plain_guest import drive, refusal
from plain_servers import PROGRAM, Handler, System


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(lifecycle, "program_executable", lambda _name: PROGRAM)
    return System()


# The limit of CPU time.


def compute_within(seconds: float) -> None:
    with time_limit(seconds):
        while True:
            pass


def test_the_handler_of_the_limits_signal_stays_for_the_steps_of_a_run_and_is_then_the_one_that_was_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchanged, exchange = [], signal.signal
    monkeypatch.setattr(signal, "signal", lambda *what: exchanged.append(what[1]) or exchange(*what))
    before = signal.getsignal(signal.SIGVTALRM)
    with ALARM.kept():
        for _ in range(3):
            with time_limit(100), ALARM.kept():
                assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 0
            assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0
        with pytest.raises(HandlerStuck, match=r"within 0\.01 s"):
            compute_within(0.01)
    assert signal.getsignal(signal.SIGVTALRM) == before
    with time_limit(100):
        assert signal.getsignal(signal.SIGVTALRM) != before
    assert signal.getsignal(signal.SIGVTALRM) == before
    assert exchanged == [ALARM._expired, before] * 2


def test_a_limit_that_was_never_set_is_cleared_without_a_change_of_the_handler() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    Alarm().clear()
    assert signal.getsignal(signal.SIGVTALRM) is before


def test_a_run_on_another_thread_leaves_the_signal_of_the_limit_alone() -> None:
    seen = []

    def run() -> None:
        with ALARM.kept():
            seen.append(ALARM.runs)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [0]


# Mounting.


def test_log_lines_of_volumes_come_in_the_order_of_disks_whatever_order_they_mount_in(system: System) -> None:
    for place, endpoint in ((1, 0), (0, 2), (0, 1)):
        assert system.mounting.start(Report(place, endpoint, f"d{place}p{endpoint}"), system.work)
    system.do(0)
    system.do(0)
    assert system.lines == []
    system.do(0)
    assert system.lines == ["d0p1: mounted", "d0p2: mounted", "d1p0: mounted"]


def test_after_the_boot_log_lines_come_as_things_happen(system: System) -> None:
    drive(system.mounting.settled(first=False))
    for place in (0, 1):
        system.mounting.start(Report(place, 0, f"d{place}"), system.work)
    second = system.mounting.state.reports[1]
    system.mounting.say(second, "d1: is being looked at")
    assert (system.lines, second.lines) == (["d1: is being looked at"], [])
    system.do(1)
    assert system.lines[1:] == ["d1: mounted"]


def test_a_volume_without_a_thread_for_its_mount_is_named(system: System) -> None:
    system.low.allocate_several(system.low.available)
    assert not system.mounting.start(Report(0, 0, "d0"), system.work)
    assert system.lines == ["d0: not mounted: no thread for it (out of memory)"]
    assert system.mounting.state.reports == []


def test_a_script_waits_for_every_volume_and_an_interactive_session_a_moment_after_the_first(system: System) -> None:
    system.mounting.start(Report(0, 0, "d0"), system.work)
    system.mounting.start(Report(1, 0, "d1"), system.work)
    clocks: list[int] = []

    def block(_call: object) -> None:
        clocks.append(system.scheduler.state.sleepers[0][0])
        if len(clocks) == 1:
            system.now(1000)
            system.mounting.there()
            assert system.scheduler.signalled(system.thread)
        else:
            system.now(clocks[-1])

    drive(system.mounting.settled(first=True), block=block)
    assert clocks == [MOUNT_DEADLINE, 1000 + GRACE]
    waits: list[int] = []

    def work(_call: object) -> None:
        waits.append(len(system.scheduler.state.sleepers))
        system.do()

    drive(system.mounting.settled(first=False), block=work)
    assert waits == [0, 0]


def test_the_log_lines_of_a_server_are_limited_also_while_its_volume_mounts(system: System) -> None:
    report = Report(0, 1, "d0p1")
    system.mounting.start(report, system.work)
    process = system.new_process()
    system.mounting.say_of("d0p1", ["a"] * 30, process)
    system.mounting.say_of("d0p1", ["b"] * 3, process)
    assert system.lines == ["a"] * 30


def test_a_line_of_a_server_is_kept_with_the_report_of_its_own_volume_alone_and_while_that_mounts(
    system: System,
) -> None:
    """Disk d0 is one volume of the same name; d0p1 has mounted; d0p2 waits for its turn."""
    disk, done, waiting = Report(0, 0, "d0"), Report(0, 1, "d0p1", done=True), Report(0, 2, "d0p2")
    process = system.new_process()
    system.mounting.state.reports[:] = [Report(0, 0, "first"), disk, done, waiting]
    for name in ("d0", "d0p1", "d0p2", "d9"):
        system.mounting.say_of(name, [name], process)
    assert system.lines == ["d0", "d0p1", "d9"]
    assert [report.lines for report in (disk, done, waiting)] == [[], [], [("d0p2", False)]]


# Hosted handlers.


class HostedThread:
    """A hosted server's thread whose HostedBlock lies at USER_HEAP."""

    def __init__(self, system: System, server: type[HostedServer] = Handler) -> None:
        self.system = system
        self.process = system.new_process("hosted:d0p1")
        self.memory = system.processes.memory_of(self.process)
        system.processes.allocate(self.process, 4096)
        self.thread = system.new_thread(self.process)
        self.thread.hosted_block = USER_HEAP
        self.server = server(system.hosted.memory_of(self.process), VolumeGeometry("d0p1", 0, 8))
        self.server.results = []
        system.hosted.servers[self.process.number] = self.server

    def step(self, message: int = 0xA002_0000) -> int:
        return self.system.hosted.step(self.thread, message)

    @property
    def block(self) -> HostedBlock:
        return HostedBlock.from_buffer_copy(self.memory.read(USER_HEAP, 64))


def test_a_handler_is_stepped_from_gate_call_to_gate_call_with_results_from_its_block(system: System) -> None:
    stepped = HostedThread(system)
    assert stepped.step() == HostedGate.SYSTEM
    assert (stepped.block.gate, stepped.block.eax, stepped.block.ebx) == (HostedGate.SYSTEM, SystemCall.CLOCK, 5)
    stepped.memory.write(USER_HEAP + 8, (77).to_bytes(4, "little"))  # EAX
    assert stepped.step() == HostedGate.DONE
    assert (stepped.server.results[0].eax, stepped.block.reply) == (77, ServerCall.REPLY_DATA)
    assert (system.hosted.running, system.lines, stepped.server.blocks) == ({}, ["d0p1: odd"], {})


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (FileSystemError(ErrorCode.CORRUPT, "no superblock"), "no superblock"),
        (ValueError("a bug"), "handler raised ValueError: a bug"),
        (SystemExit(3), "handler raised SystemExit: 3"),
        (HandlerStuck("it looped"), "it looped"),
    ],
)
def test_any_exception_of_a_handler_ends_its_server_and_not_the_kernel(
    system: System, raised: BaseException, reason: str
) -> None:
    stepped = HostedThread(system)
    stepped.server.then = raised
    stepped.step()
    assert stepped.step() == HostedGate.DONE
    assert [end[:2] for end in system.ended] == [("hosted:d0p1", reason)]
    assert system.hosted.running == {}


def test_a_keyboard_interrupt_is_not_taken_for_an_exception_of_a_handler(system: System) -> None:
    stepped = HostedThread(system)
    stepped.server.then = KeyboardInterrupt()
    stepped.step()
    with pytest.raises(KeyboardInterrupt):
        stepped.step()
    assert system.ended == []


class Greedy(Handler):
    """Reads its block for ever, and swallows exceptions."""

    swallowed = 0

    async def serve(self, message: int) -> ServerCall:
        try:
            while True:
                self.memory.read(USER_HEAP, 4)
        except HandlerStuck:
            Greedy.swallowed += 1
        self.memory.read(USER_HEAP, 4)
        return ServerCall.WAIT


def test_the_accesses_of_a_handler_in_one_step_are_limited_even_if_it_swallows_the_error(
    system: System,
) -> None:
    system.hosted.accesses_limit = 50
    stepped = HostedThread(system, Greedy)
    assert stepped.step() == HostedGate.DONE
    assert Greedy.swallowed == 1
    assert system.ended[0][1] == "handler touched memory more than 50 times in one step"
    system.hosted.accesses = system.hosted.bytes = 0
    system.hosted.touch(BYTES_LIMIT)
    with pytest.raises(HandlerStuck):
        system.hosted.touch(1)


class Endless(Handler):
    async def serve(self, message: int) -> ServerCall:
        while True:
            await GateCall(HostedGate.SYSTEM, SystemCall.YIELD)


def test_the_gate_calls_of_a_handler_for_one_request_are_limited(system: System) -> None:
    system.hosted.steps_limit = 5
    stepped = HostedThread(system, Endless)
    assert [stepped.step() for _ in range(5)] == [HostedGate.SYSTEM] * 5
    assert (stepped.step(), len(system.ended)) == (HostedGate.DONE, 1)


def test_a_handler_of_a_thread_that_dies_is_closed_and_an_objection_is_logged(system: System) -> None:
    class Objecting(Handler):
        async def serve(self, message: int) -> ServerCall:
            try:
                await GateCall(HostedGate.SYSTEM, SystemCall.YIELD)
            finally:
                raise RuntimeError("no")

    stepped = HostedThread(system, Objecting)
    stepped.step()
    system.hosted.forget(stepped.thread)
    system.hosted.forget(stepped.thread)
    assert system.lines == ["hosted:d0p1: handler raised RuntimeError when it was ended"]
    system.hosted.end_process(stepped.process)
    with refusal(ErrorCode.BAD_CALL):
        stepped.step()


# The life of servers.


def test_a_hosted_server_starts_with_a_block_in_its_memory_and_is_ready(system: System) -> None:
    state = system.native.start_hosted(Handler, VolumeGeometry("d1p1", 63, 100), 0x101)
    (thread,) = state.process.threads
    assert (state.disk, state.start, state.sectors, state.process.endpoint) == (0x101, 63, 100, state.number)
    assert (system.scheduler.state_of(thread), state.servers) == (ThreadState.READY, [thread.selector])
    assert thread.hosted_block in state.process.pages
    assert isinstance(system.hosted.servers[state.process.number], Handler)
    assert system.processes.memory_of(state.process).read(USER_STACK_TOP - 16, 1) == b"\0"


def test_a_server_that_cannot_be_started_leaves_no_process_and_its_number_is_free(system: System) -> None:
    class Broken(Handler):
        def __init__(self, _memory: object, _geometry: object) -> None:
            raise ValueError("a bug")

    processes = dict(system.records.processes)
    with pytest.raises(PolicyError, match="its server raised ValueError: a bug"):
        system.native.start_hosted(Broken, VolumeGeometry("d1p1", 0, 1), 0x101)
    assert system.records.processes == processes
    assert system.hosted.servers == {}
    assert [state.dead for state in system.endpoints.by_number.values()] == [False, True]


def test_a_server_that_can_have_no_thread_leaves_no_handlers(system: System) -> None:
    system.records.next_thread_slot = MAX_THREADS
    frames = system.low.available
    with refusal(ErrorCode.NO_RESOURCES):
        system.native.start_hosted(Handler, VolumeGeometry("d1p1", 0, 1), 0x101)
    assert (system.hosted.servers, frames - system.low.available) == ({}, 1)  # the endpoint's block stays


def test_the_image_of_a_native_server_lies_read_only_in_its_heap(system: System) -> None:
    state = system.native.start_native("own", "rom", image=b"x" * 4097, executable=PROGRAM)
    memory = system.processes.memory_of(state.process)
    assert memory.read(USER_HEAP, 4098) == b"x" * 4097 + b"\0"
    with refusal(ErrorCode.BAD_ADDRESS):
        memory.write(USER_HEAP, b"y")
    assert list(state.process.windows) == [USER_HEAP]
    without = system.native.start_native("other", "other", executable=PROGRAM)
    assert list(without.process.windows) == []


def test_the_end_of_one_thread_ends_its_server_and_its_requests(system: System) -> None:
    state = system.native.start_native("own", "rom", executable=PROGRAM)
    system.native.kill(state.process, "it broke", ["at line 3"])
    system.native.kill(state.process, "again")
    assert system.lines == ["/rom: server ended: it broke\n  at line 3"]
    assert (state.dead, state.error, state.swept) == (True, ErrorCode.SERVER_DIED, False)
    assert state.process.exit_code == KILLED_EXIT_CODE
    system.native.thread_ended(state.process.threads[0], state.process)
    assert state.swept


# Handlers that do not return.


def test_a_handler_on_a_thread_without_signals_is_stopped_when_its_time_is_used_up() -> None:
    """As under a debugger, where the system runs on a thread of its own."""
    raised: list[str] = []

    def spin() -> None:
        end = time.thread_time() + 1
        while time.thread_time() < end:
            pass

    def handler() -> None:
        try:
            with time_limit(0.02):
                spin()
        except HandlerStuck as stuck:
            raised.append(str(stuck))

    thread = threading.Thread(target=handler)
    thread.start()
    thread.join()
    assert raised == ["handler did not return within 0.02 s"]


# The volume in the kernel's own memory.


def test_a_directory_of_the_rom_lists_its_files_and_directories_and_not_theirs() -> None:
    files = {"a": b"1", "d/b": b"22", "d/e/c": b"333", "dd": b""}
    directories = directory_names(files)
    assert directories == {"", "d", "d/e"}
    listed = {
        name: [(one.name, one.attributes, one.size, one.identifier) for one in children(name, directories, files)]
        for name in sorted(directories)
    }
    assert listed == {
        "": [("a", EXECUTABLE, 1, 1), ("d", DIRECTORY, 0, 2), ("dd", EXECUTABLE, 0, 3)],
        "d": [("b", EXECUTABLE, 2, 1), ("e", DIRECTORY, 0, 2)],
        "d/e": [("c", EXECUTABLE, 3, 1)],
    }
