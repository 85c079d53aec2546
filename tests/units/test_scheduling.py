"""The scheduler alone: control blocks in plain memory, a clock that the tests set."""

import pytest
from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.thread import KernelWords, ThreadControlBlock, ThreadFlags, ThreadState
from callgate.kernel.core.control_block import ControlBlock, word
from callgate.kernel.core.records import Process, Tasks, Thread
from callgate.kernel.tasks.scheduler import Scheduler, SchedulerState, to_ticks

MILLISECOND = 1_000_000
WORDS = 0x40  # word index of the kernel's words
ARM_TIMER = WORDS + word(KernelWords, "preempt") + 1
IDLE = 0x200


class SchedulerRig:
    """A scheduler with an idle thread, which runs, and threads that sleep."""

    def __init__(self) -> None:
        self.words = memoryview(bytearray(0x10000)).cast("I")
        self.clock = 0
        self.waits: list[int] = []
        self.records, self.state = Tasks(), SchedulerState()
        self.scheduler = Scheduler(self.words, WORDS, lambda: self.clock, self.count_wait, self.state, self.records)
        self.kernel = ControlBlock(self.words, KernelWords, WORDS)
        self.state.idle = self.thread(0)
        self.scheduler.start(self.state.idle)

    def count_wait(self, reason: int) -> None:
        self.waits.append(reason)

    def thread(self, priority: int = 8) -> Thread:
        number = len(self.records.threads)
        selector = IDLE + 8 * number
        thread = Thread(number, selector, 0x100 + 0x100 * number, 0, Process(0, "p", 0), priority, f"t{number}")
        self.records.threads[selector] = thread
        self.scheduler.note_wait(thread, WaitReason.NOTHING)
        return thread

    @property
    def next(self) -> int:
        return self.kernel["next"]

    @property
    def armed(self) -> int:
        """The ticks for which the timer is to be programmed; reading clears them, as machine code does."""
        ticks, self.words[ARM_TIMER] = self.words[ARM_TIMER] & 0xFFFF, self.words[ARM_TIMER] & 0xFFFF_0000
        return ticks

    def wake_all(self, *threads: Thread) -> None:
        for thread in threads:
            self.scheduler.wake(thread)


def test_threads_of_one_priority_run_in_the_order_in_which_they_were_woken() -> None:
    rig = SchedulerRig()
    first, second, third = rig.thread(), rig.thread(), rig.thread()
    rig.wake_all(second, first, third)
    chosen = []
    for _ in range(4):
        rig.scheduler.host_yield(0)
        chosen.append(rig.scheduler.running)
    assert chosen == [second, first, third, second]
    assert rig.next == second.selector


def test_the_thread_of_highest_priority_runs_first_and_preempts_when_it_is_woken() -> None:
    rig = SchedulerRig()
    low, high = rig.thread(8), rig.thread(31)
    rig.wake_all(low)
    rig.scheduler.host_yield(0)
    assert (rig.scheduler.running, rig.kernel["preempt"]) == (low, 0)
    rig.wake_all(rig.thread(8))
    assert rig.kernel["preempt"] == 0  # a thread of equal priority does not preempt
    rig.wake_all(high)
    assert rig.kernel["preempt"] == 1
    rig.scheduler.host_yield(0)
    assert (rig.scheduler.running, rig.kernel["preempt"]) == (high, 0)


def test_the_idle_thread_runs_when_no_other_is_ready() -> None:
    rig = SchedulerRig()
    only = rig.thread()
    rig.wake_all(only)
    rig.scheduler.host_yield(0)
    rig.scheduler.host_schedule(WaitReason.INPUT)
    assert (rig.next, rig.scheduler.state_of(only)) == (IDLE, ThreadState.BLOCKED)
    block = ControlBlock(rig.words, ThreadControlBlock, only.tcb)
    assert block["esp"] == 0
    assert rig.words[only.tcb + 6] == ThreadState.BLOCKED | WaitReason.INPUT << 16


def test_a_wake_up_before_the_wait_is_not_lost_and_counts_once() -> None:
    rig = SchedulerRig()
    thread = rig.thread()
    rig.wake_all(thread)
    rig.scheduler.host_yield(0)
    rig.wake_all(thread, thread)
    rig.scheduler.host_schedule(WaitReason.REPLY)
    assert (rig.next, rig.waits) == (thread.selector, [])
    rig.scheduler.host_schedule(WaitReason.REPLY)
    assert (rig.next, rig.waits) == (IDLE, [WaitReason.REPLY])


@pytest.mark.parametrize("reason", WaitReason)
def test_only_waits_that_a_request_causes_are_counted(reason: WaitReason) -> None:
    rig = SchedulerRig()
    rig.wake_all(rig.thread())
    rig.scheduler.host_yield(0)
    rig.scheduler.host_schedule(reason)
    counted = {WaitReason.REPLY, WaitReason.SLOT, WaitReason.DISK, WaitReason.FILE}
    assert rig.waits == [reason] * (reason in counted)


def test_a_handoff_switches_directly_to_a_sleeping_thread() -> None:
    rig = SchedulerRig()
    client, server = rig.thread(), rig.thread()
    rig.wake_all(client)
    rig.scheduler.host_yield(0)
    rig.scheduler.host_handoff(server.selector | WaitReason.REPLY << 16)
    assert (rig.next, rig.scheduler.running) == (server.selector, server)
    assert rig.scheduler.state_of(client) is ThreadState.BLOCKED
    assert rig.scheduler.reason_of(client) is WaitReason.REPLY
    assert rig.waits == [WaitReason.REPLY]


def test_a_handoff_waits_its_turn_after_other_threads_that_are_ready() -> None:
    rig = SchedulerRig()
    client, server, other = rig.thread(), rig.thread(), rig.thread()
    rig.wake_all(client)
    rig.scheduler.host_yield(0)
    rig.wake_all(other)
    rig.scheduler.host_handoff(server.selector | WaitReason.REPLY << 16)
    assert (rig.next, list(rig.state.queues[8])) == (other.selector, [server])


def test_a_handoff_to_a_thread_that_has_ended_only_blocks() -> None:
    rig = SchedulerRig()
    rig.wake_all(rig.thread())
    rig.scheduler.host_yield(0)
    rig.scheduler.host_handoff(0x7F8 | WaitReason.REPLY << 16)
    assert rig.next == IDLE


def test_a_thread_keeps_the_cpu_for_a_millisecond_if_an_equal_is_ready() -> None:
    rig = SchedulerRig()
    rig.wake_all(rig.thread(), rig.thread())
    rig.scheduler.host_yield(0)
    assert rig.armed == 1193  # ticks of 1,193,182 Hz
    rig.clock = MILLISECOND - 1000
    rig.scheduler.host_tick(0)
    assert (rig.kernel["preempt"], rig.armed) == (0, 2)  # too early: the rest of the slice
    rig.clock = MILLISECOND
    rig.scheduler.host_tick(0)
    assert rig.kernel["preempt"] == 1


def test_a_thread_that_runs_alone_has_no_slice_and_no_timer() -> None:
    rig = SchedulerRig()
    rig.wake_all(rig.thread())
    rig.scheduler.host_yield(0)
    _ = rig.armed
    rig.clock = 10 * MILLISECOND
    rig.scheduler.host_tick(0)
    assert (rig.kernel["preempt"], rig.armed) == (0, 0)


def test_a_thread_that_has_run_alone_has_a_slice_from_the_moment_at_which_another_is_ready() -> None:
    rig = SchedulerRig()
    rig.wake_all(rig.thread())
    rig.scheduler.host_yield(0)
    _ = rig.armed
    rig.wake_all(rig.thread())
    assert rig.armed == 1193


def test_sleepers_are_woken_in_the_order_of_their_times_and_not_before() -> None:
    rig = SchedulerRig()
    late, early = rig.thread(), rig.thread()
    rig.scheduler.sleep_until(late, 5 * MILLISECOND)
    rig.scheduler.sleep_until(early, 2 * MILLISECOND)
    for clock, ready in ((2 * MILLISECOND - 1, []), (2 * MILLISECOND, [early]), (9 * MILLISECOND, [early, late])):
        rig.clock = clock
        rig.scheduler.host_tick(0)
        assert list(rig.state.queues.get(8, ())) == ready


def test_a_cancelled_sleep_wakes_no_thread_and_a_deadline_interrupts_as_well() -> None:
    rig = SchedulerRig()
    asleep, waiting = rig.thread(), rig.thread()
    rig.scheduler.sleep_until(asleep, MILLISECOND)
    rig.scheduler.cancel_sleep(asleep)
    waiting.deadline = MILLISECOND
    rig.scheduler.sleep_until(waiting, MILLISECOND)
    rig.clock = MILLISECOND
    rig.scheduler.host_tick(0)
    assert list(rig.state.queues[8]) == [waiting]
    flags = [ControlBlock(rig.words, ThreadControlBlock, thread.tcb)["flags"] for thread in (asleep, waiting)]
    assert flags == [0, ThreadFlags.INTERRUPTED]


def test_arming_the_timer_leaves_the_fpus_half_of_the_word_alone() -> None:
    rig = SchedulerRig()
    rig.words[ARM_TIMER] = 0x0001_0000
    rig.scheduler.sleep_until(rig.thread(), 1000)
    assert rig.words[ARM_TIMER] == 0x0001_0002  # 1000 ns are 1.19 ticks, rounded up


@pytest.mark.parametrize(("nanoseconds", "ticks"), [(0, 1), (838, 1), (839, 2), (10**12, 0xFFFF)])
def test_timer_ticks_last_at_least_as_long_as_requested_and_fit_the_timer(nanoseconds: int, ticks: int) -> None:
    assert to_ticks(nanoseconds) == ticks


def test_a_dead_thread_is_in_no_queue_and_is_not_woken() -> None:
    rig = SchedulerRig()
    dead, other = rig.thread(), rig.thread()
    rig.wake_all(dead)
    rig.scheduler.sleep_until(dead, 5)
    rig.scheduler.forget(dead)
    assert (rig.state.ready, rig.state.sleepers) == (0, [])
    rig.wake_all(dead, other)
    assert list(rig.state.queues[8]) == [other]
    assert rig.words[dead.tcb + 6] == ThreadState.DEAD


def test_a_thread_that_has_gone_is_dead_whatever_the_next_one_with_its_selector_does() -> None:
    rig = SchedulerRig()
    gone = rig.thread()
    rig.scheduler.note_wait(gone, WaitReason.INPUT)
    del rig.records.threads[gone.selector]
    assert (rig.scheduler.state_of(gone), rig.scheduler.reason_of(gone)) == (ThreadState.DEAD, WaitReason.NOTHING)


def test_a_slice_ends_with_the_last_thread_that_wants_the_cpu() -> None:
    rig = SchedulerRig()
    running, dead, late = rig.thread(), rig.thread(), rig.thread()
    rig.wake_all(running)
    rig.scheduler.host_yield(0)
    rig.wake_all(dead)
    rig.scheduler.forget(dead)
    rig.clock = 5 * MILLISECOND
    rig.scheduler.host_tick(0)
    _ = rig.armed
    rig.wake_all(late)
    assert rig.armed == 1193


def test_a_wake_up_that_comes_as_a_thread_has_noted_that_it_blocks_ends_its_wait_at_once() -> None:
    rig = SchedulerRig()
    giver, taker = rig.thread(), rig.thread()
    rig.wake_all(giver)
    rig.scheduler.host_yield(0)
    rig.scheduler.note_wait(giver, WaitReason.REPLY)  # as machine code does
    rig.wake_all(giver)
    rig.scheduler.host_handoff(taker.selector | WaitReason.REPLY << 16)
    assert (rig.next, rig.scheduler.state_of(giver)) == (giver.selector, ThreadState.RUNNING)
    rig.scheduler.host_schedule(WaitReason.REPLY)
    assert rig.next == taker.selector
    rig.scheduler.host_schedule(WaitReason.REQUEST)
    assert rig.next == IDLE


def test_a_thread_that_was_made_ready_as_it_was_handed_the_cpu_is_not_chosen_once_more() -> None:
    rig = SchedulerRig()
    taker = rig.thread()
    rig.wake_all(taker)
    rig.words[taker.tcb + 6] = ThreadState.RUNNING  # as machine code does
    rig.kernel["next"] = taker.selector
    rig.scheduler.host_schedule(WaitReason.REQUEST)
    assert rig.next == IDLE
    assert rig.scheduler.reason_of(taker) is WaitReason.REQUEST


def test_what_is_put_off_until_the_cpu_idles_wakes_a_thread_that_runs_instead() -> None:
    rig = SchedulerRig()
    other, late = rig.thread(), rig.thread(16)
    calls: list[int] = []

    def before_idle() -> None:
        calls.append(rig.clock)
        if len(calls) == 1:
            rig.scheduler.wake(late)

    rig.scheduler.before_idle = before_idle
    rig.wake_all(other)
    rig.scheduler.host_yield(0)
    assert (rig.next, calls) == (other.selector, []), "a thread is ready"
    rig.scheduler.host_schedule(int(WaitReason.REPLY))
    assert (rig.next, len(calls), rig.kernel["preempt"]) == (late.selector, 1, 0)
    rig.scheduler.host_schedule(int(WaitReason.SLEEP))
    assert (rig.next, len(calls)) == (IDLE, 2)


def test_a_thread_that_was_made_ready_before_it_yields_has_one_turn_and_not_two() -> None:
    rig = SchedulerRig()
    thread, other, late = rig.thread(), rig.thread(), rig.thread()
    rig.wake_all(thread, other)
    rig.scheduler.host_yield(0)
    rig.scheduler.note_wait(thread, WaitReason.REPLY)  # as machine code does, and is woken from outside
    rig.wake_all(thread)
    rig.scheduler.host_yield(0)
    rig.scheduler.host_schedule(WaitReason.SLEEP)
    assert rig.next == thread.selector
    rig.wake_all(late)
    rig.scheduler.host_yield(0)
    assert rig.next == late.selector


def test_a_sleeper_is_still_woken_after_the_timer_has_ended_a_slice_of_which_nothing_is_left() -> None:
    """The thread that was to be preempted blocks by itself, and no other one is ready after that."""
    rig = SchedulerRig()
    first, second, sleeper = rig.thread(), rig.thread(), rig.thread()
    rig.scheduler.sleep_until(sleeper, 50 * MILLISECOND)
    rig.wake_all(first, second)
    rig.scheduler.host_yield(0)
    rig.clock = rig.state.slice_end
    _ = rig.armed
    rig.scheduler.host_tick(0)
    assert rig.armed == 0
    rig.scheduler.host_schedule(WaitReason.REPLY)
    assert (rig.next, rig.armed) == (second.selector, to_ticks(50 * MILLISECOND - rig.clock))


def test_a_sleep_that_ends_before_a_threads_deadline_does_not_interrupt_it() -> None:
    rig = SchedulerRig()
    thread = rig.thread()
    thread.deadline = 2 * MILLISECOND
    for end, flags in ((MILLISECOND, 0), (2 * MILLISECOND, ThreadFlags.INTERRUPTED)):
        rig.scheduler.sleep_until(thread, end)
        rig.clock = end
        rig.scheduler.host_tick(0)
        assert rig.words[thread.tcb + word(ThreadControlBlock, "flags")] & ThreadFlags.INTERRUPTED == flags


def test_a_thread_can_be_woken_before_the_first_one_runs() -> None:
    rig = SchedulerRig()
    rig.state.known, rig.state.idle = None, None
    first = rig.thread()
    assert rig.scheduler.running is None
    rig.wake_all(first)
    assert (rig.scheduler.state_of(first), rig.kernel["preempt"]) == (ThreadState.READY, 0)
