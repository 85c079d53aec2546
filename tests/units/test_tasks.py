"""Shares, threads, processes and the floating-point unit, on a plain guest."""

import struct

import pytest
from callgate.kernel.abi import limits
from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import USER_ARGUMENTS, USER_FILES, USER_HEAP, USER_STACK_SIZE, USER_STACK_TOP
from callgate.kernel.abi.selectors import MAX_THREADS, SELECTOR_USER_CODE, SELECTOR_USER_DATA
from callgate.kernel.abi.thread import GateFrame, ThreadFlags, ThreadState
from callgate.kernel.core.errors import Shortage
from callgate.kernel.core.records import EndpointState, Process
from callgate.kernel.programs.executable import Executable, Segment
from callgate.kernel.tasks.fpu import FloatingPointUnit
from callgate.kernel.tasks.processes import INTERRUPTED_EXIT_CODE, Processes
from callgate.kernel.tasks.shares import Shares
from callgate.kernel.tasks.threads import Threads
from plain_guest import Tasks, drive, refusal

PAGE = 4096


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


# Shares.


def test_a_family_has_half_of_low_memory_whichever_process_asks(tasks: Tasks) -> None:
    shares = Shares(tasks.records, tasks.endpoints, tasks.memory, lambda _enough: False)
    parent = tasks.new_process()
    child = tasks.new_process("child", parent.number)
    room = tasks.low.total // 2 - len(parent.tables) - len(child.tables)
    child.pages = dict.fromkeys(range(room - 1), 0)
    shares.check_frames(parent, 1)
    with refusal(ErrorCode.NO_MEMORY):
        shares.check_frames(parent, 2)
    tasks.records.lists[parent.family] = 1  # a span in flight takes a frame as well
    with refusal(ErrorCode.NO_MEMORY):
        shares.check_list(child)
    shares.check_frames(tasks.new_process("other"), 100)


def test_the_last_frames_are_the_shells_and_idle_data_are_released_first(tasks: Tasks) -> None:
    held, asked = [], []

    def reclaim(enough: object) -> bool:
        asked.append(enough)
        return bool(held) and tasks.low.release(held.pop())

    shares = Shares(tasks.records, tasks.endpoints, tasks.memory, reclaim)
    grandchild = tasks.new_process("grandchild", tasks.new_process().number)
    held += tasks.low.allocate_several(tasks.low.available - limits.FRAMES_RESERVED_PROGRAMS)
    shares.check_free(grandchild, 0)
    shares.check_free(tasks.shell, limits.FRAMES_RESERVED_PROGRAMS - limits.FRAMES_RESERVED_SHELL)
    assert asked == []
    shares.check_free(grandchild, 2)
    assert len(asked) == 2  # only as many as were needed
    held.clear()
    with refusal(ErrorCode.NO_MEMORY):
        shares.check_free(grandchild, 3)


def test_a_family_has_64_processes_and_256_threads_and_the_shell_more(tasks: Tasks) -> None:
    shares = tasks.shares
    parent = tasks.new_process()
    for number in range(1000, 1000 + limits.PROCESSES_OF_FAMILY - 1):
        tasks.records.processes[number] = Process(number, "child", 0, parent.number, parent.family)
    with refusal(ErrorCode.NO_RESOURCES):
        shares.check_process(parent.number)
    shares.check_process(tasks.shell.number)
    thread = tasks.thread
    for number in range(1000, 1004):
        tasks.records.processes[number].threads = [thread] * (limits.THREADS_OF_FAMILY // 4)
    tasks.low.limit = 1 << 30  # there is enough memory
    with refusal(ErrorCode.NO_RESOURCES):
        shares.check_thread(tasks.records.processes[1005])
    shares.check_thread(tasks.shell)


def test_a_program_that_the_shell_starts_may_have_one_of_the_last_threads_and_no_second_one(
    tasks: Tasks,
) -> None:
    shares, child = tasks.shares, tasks.new_process()
    orphans = Process(1000, "orphans", 0, 0, 1000)
    tasks.records.threads |= dict.fromkeys(
        range(1 << 16, (1 << 16) + MAX_THREADS - limits.THREADS_RESERVED), tasks.thread
    )
    with refusal(ErrorCode.NO_RESOURCES):
        orphans.threads = [tasks.thread]
        shares.check_thread(orphans)
    shares.check_thread(child)
    child.threads = [tasks.thread]
    with refusal(ErrorCode.NO_RESOURCES):
        shares.check_thread(child)
    shares.check_thread(tasks.shell)


def test_programs_that_are_being_read_share_64_mib_of_which_the_last_8_are_the_shells(tasks: Tasks) -> None:
    shares = tasks.shares
    shares.loading.update({97: 25 << 20, 98: 25 << 20})
    shares.check_loading(5, 6 << 20)
    with refusal(ErrorCode.NO_MEMORY):
        shares.check_loading(5, (6 << 20) + 1)
    shares.check_loading(tasks.shell.number, 14 << 20)


def test_a_server_has_its_own_blocks_and_a_part_of_those_all_share(tasks: Tasks) -> None:
    tasks.high.limit = tasks.high.start + 4096 * PAGE
    own, shared = 4096 // limits.SERVER_BLOCKS_OWN, 4096 // limits.SERVER_BLOCKS_SHARED
    greedy, modest = (EndpointState(number, 0, None, 0, 0, 0, f"d{number}") for number in range(2))
    tasks.endpoints.by_number = {0: greedy, 1: modest}
    most = max(4096 // limits.SERVER_BLOCKS_PART, limits.SERVER_BLOCKS_LEAST)
    tasks.shares.check_blocks(modest, most)
    with refusal(ErrorCode.NO_RESOURCES):
        tasks.shares.check_blocks(modest, most + 1)
    greedy.locked_blocks = own + shared
    tasks.shares.check_blocks(modest, own)
    with refusal(ErrorCode.NO_RESOURCES):
        tasks.shares.check_blocks(modest, own + 1)


# Threads.


def test_a_thread_of_ring_3_starts_with_its_registers_and_nothing_of_another_threads(tasks: Tasks) -> None:
    first = tasks.new_thread(tasks.shell)
    tasks.guest.ram.view(tasks.records.stack_frames[first.selector // 8 - 64][0], 2 * PAGE - 1024)[:] = b"\xee" * 7168
    tasks.run(first)
    tasks.threads.finish(first)
    tasks.run(tasks.thread)
    tasks.threads.reap()
    threads = Threads(
        tasks.guest, tasks.memory, tasks.gdt, tasks.scheduler, tasks.fpu, tasks.records, lambda _process: None
    )
    thread = threads.create_user(tasks.shell, "new", 8, 0x40_0000, 0xBFFF_0000, eax=7, edi=9)
    assert thread.selector == first.selector  # the same stack
    frame = threads.overlay(thread, GateFrame, thread.stack - 17 * 4)
    assert bytes(frame.words[frame.base : frame.base + 17]) == struct.pack(
        "<17I", 0, 0, SELECTOR_USER_DATA, SELECTOR_USER_DATA, 9, 0, 0, 0, 0, 0, 0, 7, 0x202, 0x40_0000,
        SELECTOR_USER_CODE, 0xBFFF_0000, SELECTOR_USER_DATA,
    )  # fmt: skip
    block = threads.block(thread)
    assert (block["cr3"], block["process"], block["esp"]) == (
        tasks.shell.pointers,
        tasks.shell.number,
        thread.stack - 108,
    )


def test_a_thread_refused_in_a_dying_process_or_without_room_takes_nothing(tasks: Tasks) -> None:
    def full(_process: Process) -> None:
        raise Shortage(ErrorCode.NO_RESOURCES)

    threads = Threads(tasks.guest, tasks.memory, tasks.gdt, tasks.scheduler, tasks.fpu, tasks.records, full)
    available = tasks.low.available
    with refusal(ErrorCode.NO_RESOURCES):
        threads.create_user(tasks.shell, "new", 8, 0, 0)
    tasks.shell.dying = True
    with refusal(ErrorCode.KILLED):
        threads.create(tasks.shell, "new", 8, routine="idle")
    tasks.records.next_thread_slot = MAX_THREADS
    with refusal(ErrorCode.NO_RESOURCES):
        threads.create_kernel("new", "idle")
    assert (tasks.low.available, len(tasks.records.threads)) == (available, 2)


def test_a_thread_that_cannot_have_a_stack_gives_its_index_back(tasks: Tasks) -> None:
    kept = tasks.low.allocate_several(tasks.low.available - 2)
    with refusal(ErrorCode.NO_MEMORY):
        tasks.threads.create_kernel("new", "idle")
    assert tasks.low.available == 2
    tasks.low.release(kept[0])
    assert tasks.threads.create_kernel("new", "idle").selector // 8 == 64 + 2


def test_an_interrupt_ends_one_wait_of_a_thread_and_a_kill_ends_every_one(tasks: Tasks) -> None:
    thread = tasks.thread
    tasks.threads.check_wait(thread)
    tasks.threads.interrupt(thread)
    with refusal(ErrorCode.INTERRUPTED):
        tasks.threads.check_wait(thread)
    tasks.threads.check_wait(thread)
    tasks.threads.kill(thread)
    for _ in range(2):
        with refusal(ErrorCode.KILLED):
            tasks.threads.check_wait(thread)
    assert tasks.threads.block(thread)["flags"] == ThreadFlags.KILLED | ThreadFlags.SIGNALLED


def test_the_stack_of_an_ended_thread_is_not_given_away_while_it_still_runs_on_it(tasks: Tasks) -> None:
    thread = tasks.new_thread(tasks.shell)
    tasks.run(thread)
    tasks.threads.finish(thread)
    tasks.threads.reap()
    assert tasks.new_thread(tasks.shell).selector != thread.selector
    tasks.run(tasks.thread)
    tasks.threads.reap()
    assert tasks.new_thread(tasks.shell).selector == thread.selector


def test_a_job_runs_once_on_a_thread_of_the_kernels_own(tasks: Tasks) -> None:
    done = []

    async def job() -> None:
        done.append("mounted")

    first, second = tasks.threads.start_job("a", job), tasks.threads.start_job("b", job)
    assert first.process.number == 0
    numbers = list(tasks.threads.jobs)
    assert len(set(numbers)) == 2
    drive(tasks.threads.host_job(numbers[0]))
    assert (done, list(tasks.threads.jobs)) == (["mounted"], numbers[1:])
    assert tasks.scheduler.state_of(second) is ThreadState.BLOCKED


# Processes.


def program(*segments: Segment, entry: int = 0x40_0000) -> Executable:
    return Executable(entry, segments, b"")


def test_a_program_is_loaded_at_its_addresses_with_zeros_after_it_and_its_arguments(tasks: Tasks) -> None:
    process = tasks.new_process()
    process.directory = b"/d0/DOCS"
    text = Segment(0x40_0000, 0, memoryview(b"\xc3" * 5), 5, writable=False, executable=True)
    data = Segment(0x40_1FFE, 0, memoryview(b"abcd"), PAGE, writable=True, executable=False)
    assert tasks.processes.load(process, program(text, data), b"cat x") == 0x40_0000
    memory = tasks.processes.memory_of(process)
    assert memory.read(0x40_0000, 6) == b"\xc3" * 5 + b"\0"
    assert memory.read(0x40_1FFE, 6) == b"abcd\0\0"
    assert memory.read(USER_ARGUMENTS, 15) == b"cat x\0/d0/DOCS\0"
    with refusal(ErrorCode.BAD_ADDRESS):
        memory.write(0x40_0000, b"\x90")
    assert tasks.machine.changed_code == [(process.pages[0x40_0000], PAGE)]


def test_memory_is_allocated_first_fit_and_zeroed_and_freed_whole(tasks: Tasks) -> None:
    processes, process = tasks.processes, tasks.new_process()
    first, second = processes.allocate(process, 1), processes.allocate(process, PAGE + 1)
    assert (first, second) == (USER_HEAP, USER_HEAP + PAGE)
    processes.memory_of(process).write(first, b"secret")
    processes.free(process, first)
    with refusal(ErrorCode.BAD_ADDRESS):
        processes.free(process, first)
    with refusal(ErrorCode.BAD_ADDRESS):
        processes.free(process, second + PAGE)
    again = processes.allocate(process, PAGE)
    assert (again, processes.memory_of(process).read(again, 6)) == (first, bytes(6))
    for size in (0, USER_FILES - USER_HEAP + 1):
        with refusal(ErrorCode.BAD_ARGUMENT):
            processes.allocate(process, size)


def test_the_stack_grows_by_pages_within_its_16_and_not_in_a_dying_process(tasks: Tasks) -> None:
    process = tasks.new_process()
    bottom = USER_STACK_TOP - USER_STACK_SIZE
    assert tasks.processes.provide(process, bottom)
    assert not tasks.processes.provide(process, bottom)  # already mapped: another reason for the fault
    assert not tasks.processes.provide(process, bottom - 1)
    assert not tasks.processes.provide(process, USER_STACK_TOP)
    process.dying = True
    assert not tasks.processes.provide(process, bottom + PAGE)


def test_a_process_that_has_ended_releases_everything_and_its_children_become_orphans(tasks: Tasks) -> None:
    available = tasks.low.available
    processes = Processes(tasks.guest, tasks.memory, tasks.threads, tasks.records, tasks.shares, tasks.let_go.append)
    process = processes.create("program", parent=tasks.shell.number)
    child = processes.create("child", parent=process.number)
    processes.allocate(process, 3 * PAGE)
    processes.provide(process, USER_STACK_TOP - 1)
    tasks.scheduler.note_wait(tasks.thread, WaitReason.CHILD)
    process.waiter = tasks.thread.selector
    processes.kill(process, 9)
    processes.kill(process, 10)  # the first reason counts
    processes.clean_up(process)
    assert (tasks.let_go, tasks.scheduler.state_of(tasks.thread), child.parent) == ([process], ThreadState.READY, 0)
    assert processes.reap(process) == 9
    processes.discard(child)
    assert (tasks.low.available, list(tasks.records.processes)) == (available, [0, 1])


def test_a_child_of_a_dying_process_is_refused(tasks: Tasks) -> None:
    parent = tasks.new_process()
    tasks.processes.kill(parent, 1)
    with refusal(ErrorCode.KILLED):
        tasks.new_process("child", parent.number)


def test_a_child_of_a_process_that_there_is_not_is_refused_and_has_no_family_to_share_with(tasks: Tasks) -> None:
    with refusal(ErrorCode.KILLED):
        tasks.new_process("child", 999)
    tasks.shares.check_process(999)
    assert tasks.shares.family_of(7, 999) == 7


def test_instructions_of_a_thread_that_has_ended_are_counted_to_its_last_turn(tasks: Tasks) -> None:
    thread = tasks.new_thread(tasks.shell)
    tasks.run(thread)
    tasks.threads.turns.words[0] = thread.selector  # as the switch does
    tasks.machine.state.count += 100
    tasks.threads.finish(thread)
    tasks.machine.state.count += 20  # on its way to the switch
    assert (thread.instructions, tasks.threads.retired(thread)) == (0, 120)


def test_without_a_shell_a_break_ends_the_program_that_waits_for_input(tasks: Tasks) -> None:
    """A system that is booted without a shell: programs are started from outside."""
    orphan = tasks.new_process("orphan", 0)
    tasks.scheduler.note_wait(tasks.new_thread(orphan), WaitReason.INPUT)
    tasks.records.shell = -1
    assert tasks.processes.interrupt() == 0
    assert orphan.dying


def test_a_break_ends_the_program_that_runs_and_not_an_orphan_that_waits_for_input(tasks: Tasks) -> None:
    """The shell waits for input as well, having started it in the background."""
    orphan, program = tasks.new_process("orphan", 0), tasks.new_process()
    for thread in (tasks.new_thread(orphan), tasks.thread):
        tasks.scheduler.note_wait(thread, WaitReason.INPUT)
    assert tasks.processes.interrupt() == tasks.shell.number
    assert (program.dying, orphan.dying) == (True, False)


def test_what_the_shell_or_the_kernel_starts_is_a_family_of_its_own(tasks: Tasks) -> None:
    for parent in (tasks.shell.number, 0):
        program = tasks.new_process("program", parent)
        assert program.family == program.number
        assert tasks.new_process("child", program.number).family == program.family


def test_a_break_ends_the_shells_youngest_descendant_and_tells_its_parent(tasks: Tasks) -> None:
    older, younger = tasks.new_process(), tasks.new_process()
    grandchild = tasks.new_process("grandchild", younger.number)
    assert tasks.processes.interrupt() == younger.number
    assert (grandchild.exit_code, younger.dying, older.dying) == (INTERRUPTED_EXIT_CODE, False, False)
    assert tasks.processes.interrupt() == tasks.shell.number
    assert (younger.dying, older.dying) == (True, False)


def test_a_break_with_no_child_interrupts_the_shell_and_a_break_at_the_prompt_ends_an_orphan(tasks: Tasks) -> None:
    tasks.processes.host_input(1)
    assert tasks.guest.kernel_words["console_break"] == tasks.shell.number
    assert tasks.threads.block(tasks.thread)["flags"] == ThreadFlags.INTERRUPTED | ThreadFlags.SIGNALLED
    orphan = tasks.new_process("orphan", 0)
    thread = tasks.new_thread(orphan)
    tasks.scheduler.note_wait(thread, WaitReason.INPUT)
    assert tasks.processes.interrupt() == tasks.shell.number  # the shell does not read: Ctrl-C is for the shell
    assert not orphan.dying
    tasks.scheduler.note_wait(tasks.thread, WaitReason.INPUT)
    assert tasks.processes.interrupt() == 0
    assert orphan.dying


# The floating-point unit.


def test_floating_point_registers_are_read_from_the_cpu_for_their_owner_and_else_from_the_save_area(
    tasks: Tasks,
) -> None:
    fpu = FloatingPointUnit(tasks.guest, tasks.records)
    other = tasks.new_thread(tasks.shell)
    tasks.guest.kernel_words["fpu_owner"] = tasks.thread.selector
    area = other.tcb * 4 + 512  # the FXSAVE image is the second half of the control block
    tasks.guest.ram.view(area + 160 + 16, 16)[:] = (5).to_bytes(16, "little")  # XMM1 (SDM vol. 1, table 10-2)
    assert fpu.of(tasks.thread) is tasks.machine.fpu
    assert (fpu.of(other).xmm[1], fpu.touched(other), fpu.touched(tasks.thread)) == (5, True, False)
    fpu.forget(other)
    assert not fpu.touched(other)


def test_contradictions_in_the_handover_of_registers_are_described(tasks: Tasks) -> None:
    fpu = tasks.fpu
    tasks.machine.cpu.cr0 = 8  # TS: every use of them traps
    assert fpu.check() == []
    tasks.machine.cpu.cr0 = 0
    assert fpu.check() == ["CR0.TS and fpu_live do not agree"]
    tasks.guest.kernel_words["fpu_owner"] = 0x7F8
    assert fpu.check()[0] == "the FPU belongs to 0x7f8, which is not a thread"
