"""Choosing the next thread: priorities with round robin, time slices, sleepers.

The scheduler knows no selector's meaning and no page table: it answers with the selector of a thread,
and machine code switches to it (asm/kernel/threads/switch.asm).  Host calls are atomic on the one CPU.

What a thread does (its state, why it waits, a wake-up that came too early) and which one runs stand in guest memory
alone: a thread that hands the CPU to a sleeping one, while no other is ready, does so in machine code, and policy does
not hear of it.

A wake-up that comes before its thread blocks is kept as SIGNALLED and makes the next wait return at once; every wait
in the kernel is a loop around its condition, so one too many does no harm.
"""

from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import field

from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.thread import KernelWords, ThreadControlBlock, ThreadFlags, ThreadState
from callgate.kernel.common.record import record
from callgate.kernel.core.records import Tasks, Thread

TCB_STATE = offset_of(ThreadControlBlock, "state") // 4
TCB_FLAGS = offset_of(ThreadControlBlock, "flags") // 4
REASON_SHIFT = 16  # of `wait_reason` in the word of `state`
assert offset_of(ThreadControlBlock, "wait_reason") == 4 * TCB_STATE + REASON_SHIFT // 8
WORD_NEXT = offset_of(KernelWords, "next") // 4
WORD_PREEMPT = offset_of(KernelWords, "preempt") // 4
WORD_ARM_TIMER = offset_of(KernelWords, "arm_timer") // 4
READY_SHIFT = 24  # of `ready` in the word of `arm_timer`
ASKS = 1 << 31  # in that word: policy is asked at each handoff, also where there is nothing to choose

# Plain numbers: an enumeration's member costs an attribute look-up each time.
READY = int(ThreadState.READY)
BLOCKED = int(ThreadState.BLOCKED)
RUNNING = int(ThreadState.RUNNING)
DEAD = int(ThreadState.DEAD)
SIGNALLED = int(ThreadFlags.SIGNALLED)
STATE_MASK = (1 << REASON_SHIFT) - 1

SLICE_TICKS = 1193  # PIT ticks of a time slice: one millisecond of virtual time
TICK_LIMIT = 0xFFFF
PIT_HZ = 1_193_182
NANOSECONDS = 1_000_000_000

#: Waits that a request causes; a server thread's wait for work is not one.
COUNTED_WAITS = frozenset(map(int, (WaitReason.REPLY, WaitReason.SLOT, WaitReason.DISK, WaitReason.FILE)))


@record
class SchedulerState:
    """The ready queues."""

    queues: dict[int, deque[Thread]] = field(default_factory=dict)  # by priority, since a thread of it was ready first
    ready: int = 0  # mask: queue not empty
    known: Thread | None = None  # the thread that ran when policy last looked: see `Scheduler.running`
    idle: Thread | None = None
    sleepers: list[tuple[int, int]] = field(default_factory=list)  # (clock, selector), sorted
    slice_end: int = 0
    timer_due: int = 0  # clock when the timer fires that runs now; 0 = none runs


class Scheduler:
    """Ready queues and the answers to SCHEDULE, HANDOFF, WAKE, YIELD and TICK."""

    def __init__(
        self,
        words: memoryview,
        kernel_words: int,
        now: Callable[[], int],
        count_wait: Callable[[int], None],
        state: SchedulerState,
        tasks: Tasks,
        before_idle: Callable[[], None] = lambda: None,
    ) -> None:
        """Take low memory as words, the word index of `kernel_words`, the clock, and records.

        `count_wait(reason)` is called for each wait of COUNTED_WAITS, `before_idle()` before the CPU idles; it may wake
        a thread.
        """
        self.words = words
        self.kernel_words = kernel_words
        self.now = now
        self.count_wait = count_wait
        self.state = state
        self.tasks = tasks
        self.before_idle = before_idle

    # Host calls.

    def host_schedule(self, reason: int) -> None:
        """SCHEDULE: block the current thread for `reason`, unless a wake-up has come already.

        One that came after machine code had noted that the thread blocks has made it ready.
        """
        thread, words = self.current, self.words
        if words[thread.tcb + TCB_FLAGS] & SIGNALLED or words[thread.tcb + TCB_STATE] == READY:
            words[thread.tcb + TCB_FLAGS] &= ~SIGNALLED
            self._let_run(thread)
            return
        words[thread.tcb + TCB_STATE] = BLOCKED | reason << REASON_SHIFT
        if reason in COUNTED_WAITS:
            self.count_wait(reason)
        self.choose()

    def host_handoff(self, value: int) -> None:
        """HANDOFF: wake the thread in the low half of `value`, block the current one for the high half.

        Machine code asks only if there is something to choose or to arm; else it makes the switch by itself, with the
        same result (HAND_OVER in asm/kernel/threads/switch.asm).
        """
        thread = self.tasks.threads.get(value & 0xFFFF)
        if thread is not None:
            self._ready_or_signal(thread)
        self.host_schedule(value >> 16)

    def _ready_or_signal(self, thread: Thread) -> None:
        """Wake a thread without comparing priorities: the next thread is about to be chosen."""
        if self.words[thread.tcb + TCB_STATE] & STATE_MASK == BLOCKED:
            self.make_ready(thread)
        else:
            self.words[thread.tcb + TCB_FLAGS] |= SIGNALLED

    def host_wake(self, selector: int) -> None:
        """WAKE: make a thread ready, or remember the wake-up if it does not sleep yet."""
        thread = self.tasks.threads.get(selector)
        if thread is not None:
            self.wake(thread)

    def host_yield(self, _value: int) -> None:
        """YIELD: put the current thread after others of its priority, or let one of higher priority run."""
        self.words[self.kernel_words + WORD_PREEMPT] = 0
        thread = self.current
        if thread is not self.state.idle and self.words[thread.tcb + TCB_STATE] == RUNNING:
            self.make_ready(thread)
        self.choose()

    def host_tick(self, _value: int) -> None:
        """TICK: the timer has fired; wake the threads that are due, end the time slice if others are ready."""
        now = self.now()
        self.state.timer_due = 0
        sleepers = self.state.sleepers
        while sleepers and sleepers[0][0] <= now:
            self._due(sleepers.pop(0)[1], now)
        if now >= self.state.slice_end and self.state.ready >> self.current.priority:
            self.words[self.kernel_words + WORD_PREEMPT] = 1
        elif self.state.ready or sleepers:
            # With no thread to wake and none to preempt, the timer stays silent.
            self.arm()

    def _due(self, selector: int, now: int) -> None:
        """Wake a sleeper; one that waits for a server until its deadline is interrupted."""
        thread = self.tasks.threads[selector]
        if thread.deadline is not None and thread.deadline <= now:
            self.words[thread.tcb + TCB_FLAGS] |= ThreadFlags.INTERRUPTED
        self.wake(thread)

    def start(self, thread: Thread) -> None:
        """Make `thread` the first one to run."""
        self._let_run(thread)

    # For the other managers.

    @property
    def current(self) -> Thread:
        """The running thread; RuntimeError while there is none yet."""
        thread = self.running
        if thread is None:
            raise RuntimeError("no thread runs yet")
        return thread

    @property
    def running(self) -> Thread | None:
        """The thread that runs, or is about to after a choice; None before the first one does.

        A thread that ends is out of `Tasks.threads` and still the one that runs, until the next choice.
        """
        selector = self.words[self.kernel_words + WORD_NEXT]
        thread = self.state.known
        if thread is not None and thread.selector != selector:
            thread = self.state.known = self.tasks.threads[selector]
        return thread

    def state_of(self, thread: Thread) -> ThreadState:
        """What a thread does."""
        if self.tasks.threads.get(thread.selector) is not thread:
            return ThreadState.DEAD
        return ThreadState(self.words[thread.tcb + TCB_STATE] & STATE_MASK)

    def reason_of(self, thread: Thread) -> WaitReason:
        """What a thread waits for; NOTHING if it does not."""
        if self.state_of(thread) is not ThreadState.BLOCKED:
            return WaitReason.NOTHING
        return WaitReason(self.words[thread.tcb + TCB_STATE] >> REASON_SHIFT)

    def note_wait(self, thread: Thread, reason: WaitReason) -> None:
        """Say of a thread that does not run what it waits for."""
        self.words[thread.tcb + TCB_STATE] = BLOCKED | reason << REASON_SHIFT

    def signalled(self, thread: Thread) -> bool:
        """Whether a thread's next wait will return at once."""
        return bool(self.words[thread.tcb + TCB_FLAGS] & SIGNALLED)

    def wake(self, thread: Thread) -> None:
        """Make `thread` ready, or remember the wake-up if it is not blocked."""
        if self.words[thread.tcb + TCB_STATE] & STATE_MASK != BLOCKED:
            self.words[thread.tcb + TCB_FLAGS] |= SIGNALLED
            return
        self.make_ready(thread)
        current = self.running
        if current is not None and current.priority < thread.priority:
            self.words[self.kernel_words + WORD_PREEMPT] = 1
        elif self.state.slice_end == 0:
            self.arm()

    def ask_always(self, *, always: bool) -> None:
        """Have machine code ask at each handoff, or only where there is something to choose or to arm."""
        word = self.kernel_words + WORD_ARM_TIMER
        self.words[word] = self.words[word] & ~ASKS | (ASKS if always else 0)

    def request_yield(self) -> None:
        """Have the current thread yield at the end of its system call."""
        self.words[self.kernel_words + WORD_PREEMPT] = 1

    @property
    def choice_due(self) -> bool:
        """Whether a thread has still to be chosen, or the timer armed."""
        words, first = self.words, self.kernel_words
        return bool(words[first + WORD_PREEMPT] | words[first + WORD_ARM_TIMER] & 0xFFFF)

    def sleep_until(self, thread: Thread, clock: int) -> None:
        """Have `thread` woken at `clock`, in nanoseconds of virtual time."""
        insort(self.state.sleepers, (clock, thread.selector))
        self.arm()

    def cancel_sleep(self, thread: Thread) -> None:
        """Forget that `thread` was to be woken at some time."""
        self.state.sleepers = [entry for entry in self.state.sleepers if entry[1] != thread.selector]

    def forget(self, thread: Thread) -> None:
        """Take a dead thread out of every queue."""
        self.words[thread.tcb + TCB_STATE] = DEAD
        queue = self.state.queues.get(thread.priority)
        while queue and thread in queue:
            queue.remove(thread)
        if not queue:
            self._set_ready(self.state.ready & ~(1 << thread.priority))
        self.cancel_sleep(thread)

    def make_ready(self, thread: Thread) -> None:
        """Append `thread` to the queue of its priority."""
        self.words[thread.tcb + TCB_STATE] = READY
        self.state.queues.setdefault(thread.priority, deque()).append(thread)
        self._set_ready(self.state.ready | 1 << thread.priority)

    def _set_ready(self, mask: int) -> None:
        """Note which queues are not empty; while all are, no time slice ends."""
        self.state.ready = mask
        word = self.kernel_words + WORD_ARM_TIMER
        self.words[word] = self.words[word] & ~(1 << READY_SHIFT) | bool(mask) << READY_SHIFT
        if not mask:
            self.state.slice_end = 0

    def choose(self) -> None:
        """Answer with the thread that has waited longest at the highest priority that is ready."""
        state = self.state
        assert state.idle is not None
        thread = self._next_ready()
        if thread is None:
            self.before_idle()
            self.words[self.kernel_words + WORD_PREEMPT] = 0  # what it has woken is chosen now
            thread = self._next_ready() or state.idle
        self._let_run(thread)
        state.slice_end = 0
        if state.ready or state.sleepers:
            self.arm()

    def _next_ready(self) -> Thread | None:
        """Take the next thread out of its queue; None if no thread is ready.

        One that was made ready from outside just as machine code handed it the CPU has had its turn.
        """
        state = self.state
        while state.ready:
            priority = state.ready.bit_length() - 1
            queue = state.queues[priority]
            thread = queue.popleft()
            if not queue:
                self._set_ready(state.ready & ~(1 << priority))
            if self.words[thread.tcb + TCB_STATE] == READY:
                return thread
        return None

    def _let_run(self, thread: Thread) -> None:
        self.state.known = thread
        self.words[thread.tcb + TCB_STATE] = RUNNING
        self.words[self.kernel_words + WORD_NEXT] = thread.selector

    def arm(self) -> None:
        """Have the timer interrupt at the end of the slice or when the first sleeper is due, if not before.

        A timer that runs already and fires earlier is left alone: TICK handles what is still to come.  So a
        switch does not program the timer, as long as switches are faster than time slices.
        """
        state = self.state
        now = self.now()
        due = now + TICK_LIMIT * NANOSECONDS // PIT_HZ
        if state.ready:
            if state.slice_end == 0:
                state.slice_end = now + SLICE_TICKS * NANOSECONDS // PIT_HZ
            due = min(due, state.slice_end)
        if state.sleepers:
            due = min(due, state.sleepers[0][0])
        if now < state.timer_due <= due:
            return
        state.timer_due = due
        arm = self.kernel_words + WORD_ARM_TIMER
        self.words[arm] = self.words[arm] & ~TICK_LIMIT | to_ticks(due - now)


def to_ticks(nanoseconds: int) -> int:
    """Return PIT ticks that last at least `nanoseconds`, 1 to 65535."""
    return max(1, min(TICK_LIMIT, -(-nanoseconds * PIT_HZ // NANOSECONDS)))
