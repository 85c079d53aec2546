"""A history: any moment of a run can be reached again, and the run goes on from there as it did.

The oracle is another machine that runs from power-on to the same position in one go.
"""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import open_image
from callgate.kernel.machine.memory.bus import DmaError
from callgate.kernel.machine.memory.outside import Input
from callgate.kernel.machine.observation.position import Position
from callgate.kernel.system import System, SystemOptions
from callgate.tools.debugger.history import LEAST, Checkpoint, Checkpoints, History, HistoryInterrupted, Moment
from callgate.tools.debugger.history import checkpoints as checkpoints_module
from callgate.tools.debugger.history import history as history_module

LINES = [b"ls -l\n", b"cat README.TXT\n", b"df\n", b"free\n", b"tree\n", b"exit 7\n"]


class Console:
    """Types lines one by one, and keeps what is printed."""

    def __init__(self, lines: list[bytes] = LINES) -> None:
        self.lines = list(lines)
        self.printed = bytearray()

    def source(self, _size: int) -> bytes:
        return self.lines.pop(0) if self.lines else b""


def demo(console: Console) -> System:
    medium = open_image(Path(demo_image(cache_directory())))
    options = SystemOptions(16 << 20, 1 << 20, output=console.printed.extend, source=console.source)
    return System([medium], options)


def state(system: System) -> tuple[object, ...]:
    """Return all that a guest could ever see: registers, memory, clock, events to come; and the ledger."""
    machine = system.machine
    machine.runner.settle()
    memory = [hash(bytes(region.view)) for region in machine.ram.regions]
    plain = machine.events.save(), machine.pic.save(), machine.serial.save()
    return machine.cpu.registers(), memory, machine.clock.now, repr(plain), repr(machine.ledger)


@pytest.fixture(scope="module")
def console() -> Console:
    return Console()


@pytest.fixture(scope="module")
def whole(console: Console) -> Iterator[History]:
    """A run from power-on to its end, with its history."""
    with demo(console) as system:
        history = History(system)
        stop = history.run()
        assert (stop.reason, stop.detail) == ("exit", 7)
        yield history


@pytest.fixture
def ended(whole: History) -> History:
    """The same, at its end."""
    whole.go(whole.edge)
    return whole


def moments(history: History, seed: int, count: int) -> list[Moment]:
    dice = random.Random(seed)
    found = [Position(dice.randrange(history.edge.position.retired)) for _ in range(count)]
    return [Moment(place, sum(entry.position < place for entry in history.occurred)) for place in found]


def test_a_run_with_a_history_is_the_run_without_one(whole: History, console: Console) -> None:
    plain = Console()
    with demo(plain) as system:
        assert system.run().detail == 7
        assert system.machine.position == whole.edge.position
        assert plain.printed == console.printed
        expected = state(system)
    whole.go(whole.edge)
    assert state(whole.system) == expected


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("seed", range(3))
def test_any_moment_is_what_it_was_for_a_machine_that_comes_there_in_one_go(ended: History, seed: int) -> None:
    for moment in moments(ended, seed, 3):
        ended.go(moment)
        there = state(ended.system)
        with demo(Console()) as system:
            system.machine.run(goal=moment.position)
            assert system.machine.position == ended.machine.position
            assert state(system) == there


@pytest.mark.thorough(only=True)
def test_three_hundred_moments_in_any_order_are_what_they_were(ended: History) -> None:
    order = sorted(moments(ended, 99, 300))
    expected = []
    with demo(Console()) as system:
        for moment in order:
            system.machine.run(goal=moment.position)
            expected.append(state(system))
    pairs = list(zip(order, expected, strict=True))
    random.Random(1).shuffle(pairs)
    for moment, there in pairs:
        ended.go(moment)
        assert state(ended.system) == there


def test_steps_back_and_forward_pass_the_same_positions(ended: History) -> None:
    places = [ended.machine.position]
    for _ in range(40):
        assert ended.step_back()
        places.append(ended.machine.position)
    assert places == sorted(set(places), reverse=True)
    for place in reversed(places[:-1]):
        ended.step()
        assert ended.machine.position == place
    assert ended.moment == ended.edge


def test_steps_back_pass_each_exception_and_interrupt_that_was_delivered(ended: History) -> None:
    delivered: list[Position] = []
    first = Moment(Position(0))
    ended.go(first)
    machine = ended.machine
    listener = machine.stream.subscribe(
        lambda _event: delivered.append(machine.position), ["exception", "interrupt"], again=True
    )
    ended.run()
    machine.stream.unsubscribe(listener)
    assert len(delivered) > 20
    for place in delivered[:: len(delivered) // 4]:
        ended.go(Moment(Position(place.retired + 2), sum(entry.position <= place for entry in ended.occurred)))
        passed = []
        while machine.position >= place and ended.step_back():
            passed.append(machine.position)
        begun = [position for position in passed if position.retired == place.retired]
        # An event comes while its delivery is counted already: the position after it, which is that of the handler.
        assert max(begun).delivered >= 1
        assert [position.delivered for position in begun] == list(range(max(begun).delivered, -1, -1))


def test_the_beginning_is_the_end_of_all_steps_back(ended: History) -> None:
    ended.go(Moment(Position(2)))
    assert [ended.step_back(), ended.step_back(), ended.step_back()] == [True, True, False]
    assert ended.moment == ended.first


def test_breakpoints_stop_at_the_same_moments_backward_and_forward(ended: History) -> None:
    breakpoints = ended.machine.breakpoints
    breakpoints.add("take_slot")
    try:
        ended.go(ended.first)
        forward = []
        while ended.run().reason == "breakpoint":
            forward.append(ended.moment)
        assert ended.moment == ended.edge
        backward = []
        while ended.back_to(lambda stop: stop.reason == "breakpoint"):
            backward.append(ended.moment)
    finally:
        breakpoints.clear()
    assert len(forward) >= 20
    assert backward == forward[::-1]
    assert ended.moment == ended.first


def test_nothing_is_printed_or_told_twice(ended: History, console: Console) -> None:
    before, told = bytes(console.printed), []
    listener = ended.system.machine.stream.subscribe(told.append)
    ended.go(ended.first)
    ended.run()
    ended.machine.stream.unsubscribe(listener)
    assert (bytes(console.printed), told) == (before, [])


def test_input_in_the_past_begins_another_run_and_says_so() -> None:
    console = Console([b"free\n", b"df\n"])
    with demo(console) as system:
        history = History(system)
        history.run()
        typed = history.occurred[1]
        branched: list[Moment] = []
        history.branched.append(branched.append)
        history.go(Moment(typed.position, 1))
        system.machine.serial.feed(b"exit 9\n")
        assert branched == [Moment(typed.position, 1)]
        assert history.occurred[1].position == typed.position
        stop = history.run()
        assert (stop.reason, stop.detail) == ("exit", 9)
        end, there = history.moment, state(system)
        history.go(history.first)
        assert history.run().detail == 9
        assert (history.moment, state(system)) == (end, there)


def test_what_is_typed_while_the_run_goes_on_comes_in_the_present_and_again_when_it_is_repeated() -> None:
    with demo(Console([b"tree\n"])) as system:
        history = History(system)
        asked: list[bool] = []

        def typed() -> bytes:
            asked.append(history.in_past)
            return b"exit 5\n" if len(asked) == 3 else b""

        history.typed = typed
        assert history.run().detail == 5
        end, there = history.moment, state(system)
        assert [entry.what for entry in history.occurred][-1] == Input(b"exit 5\n")
        count = len(asked)
        history.go(history.first)
        assert history.run(goal=end.position).reason in ("position", "exit")
        assert (history.moment, state(system)) == (end, there)
        assert len(asked) == count
        assert not any(asked)


def test_a_change_by_hand_is_a_part_of_the_run() -> None:
    with demo(Console([b"exit\n"])) as system:
        history = History(system)
        history.run(until="take_slot")
        before = system.machine.cpu.ecx
        history.set_register("edi", 0xDEAD0000)
        system.machine.write_physical(0x5000, b"by hand")
        changed = history.moment
        history.step_back()
        assert (system.machine.cpu.ecx == before, system.machine.ram.read(0x5000, 7)) != (True, b"by hand")
        history.go(changed)
        assert (system.machine.cpu.edi, system.machine.ram.read(0x5000, 7)) == (0xDEAD0000, b"by hand")


def test_a_change_by_hand_where_there_is_no_memory_is_no_part_of_the_run() -> None:
    with demo(Console([b"exit\n"])) as system:
        history = History(system)
        history.run(until="take_slot")
        with pytest.raises(DmaError):
            system.machine.write_physical(0xC000_0000, b"nowhere")
        assert not history.occurred
        reached = history.moment
        history.go(history.first)
        history.go(reached)
        assert history.moment == reached


def test_disks_that_were_unplugged_and_plugged_in_come_and_go_again() -> None:
    console = Console([b"ls\n", b"df\n", b"df\n", b"exit 3\n"])
    with demo(console) as system:
        history = History(system)
        assert history.run(fuel=20_000).reason == "fuel"
        system.unplug(0)
        assert history.run(fuel=6_000).reason == "fuel"
        system.plug(0, open_image(Path(demo_image(cache_directory()))))
        assert history.run().detail == 3
        end, there = history.moment, state(system)
        for moment in moments(history, 5, 6):
            history.go(moment)
        history.go(end)
        assert state(system) == there


@pytest.fixture(scope="module")
def slot_taken() -> Moment:
    """The moment after the first call of `take_slot`: the way there leads past it, whatever checkpoints there are."""
    with demo(console := Console()) as system:
        return Moment(Position(system.machine.run(until="take_slot").retired + 1), len(LINES) - len(console.lines))


def test_ctrl_c_ends_a_search_and_leaves_the_system_where_it_was(ended: History, slot_taken: Moment) -> None:
    there, here = state(ended.system), ended.moment
    machine = ended.machine
    with machine.probing("take_slot", machine.control.interrupt), pytest.raises(HistoryInterrupted):
        ended.go(slot_taken)
    assert ended.moment == here
    assert state(ended.system) == there


@pytest.mark.parametrize("back_to", [False, True])
def test_ctrl_c_within_a_restore_lets_it_finish_and_then_the_system_is_put_back(ended: History, back_to: bool) -> None:
    there, here = state(ended.system), ended.moment
    came: list[Position] = []

    def restored() -> None:
        if not came:
            came.append(ended.machine.position)
            signal.raise_signal(signal.SIGINT)

    ended.restored.append(restored)
    try:
        with pytest.raises(HistoryInterrupted):
            ended.back_to(lambda stop: stop.reason == "breakpoint") if back_to else ended.go(Moment(Position(30_000)))
    finally:
        ended.restored.remove(restored)
    assert came
    assert (ended.moment, state(ended.system)) == (here, there)


def test_ctrl_c_while_a_checkpoint_is_taken_ends_the_run_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Checkpoints.take

    def interrupted(checkpoints: Checkpoints, moment: Moment, spent: float) -> Checkpoint:
        signal.raise_signal(signal.SIGINT)
        return take(checkpoints, moment, spent)

    with demo(Console()) as system:
        history = History(system)
        system.machine.on_interrupt = None  # as under a debugger: the guest is not told
        monkeypatch.setattr(Checkpoints, "take", interrupted)
        monkeypatch.setattr(history_module, "pause_after", lambda _cost: 0.0)
        assert history.run().reason == "interrupted"
        monkeypatch.undo()
        there = state(system)
        assert history.checkpoints.kept[-1].moment == history.moment
        history.go(history.first)
        history.go(history.edge)
        assert state(system) == there


def test_a_second_ctrl_c_does_not_prevent_the_way_back(ended: History, slot_taken: Moment) -> None:
    there, here = state(ended.system), ended.moment
    machine = ended.machine
    with machine.probing("take_slot", lambda: signal.raise_signal(signal.SIGINT)), pytest.raises(HistoryInterrupted):
        ended.go(slot_taken)
    assert (ended.moment, state(ended.system)) == (here, there)


def test_a_breakpoint_where_a_checkpoint_lies_does_not_stop_what_is_repeated(ended: History) -> None:
    def step_back_to(moment: Moment) -> bool:
        ended.go(Moment(Position(moment.position.retired + 1), moment.outside))
        return ended.step_back() and ended.moment == moment

    kept = [checkpoint.moment for checkpoint in ended.checkpoints.kept]
    moment = next(filter(step_back_to, kept[len(kept) // 2 :]))  # no interrupt comes there, which is a step by itself
    machine = ended.machine
    with machine.probing(machine.cpu.eip, lambda: machine.request_stop("here")):
        ended.go(ended.edge)
        assert step_back_to(moment)


def test_a_moment_outside_the_history_is_refused(ended: History) -> None:
    beyond = Moment(Position(ended.edge.position.retired + 1))
    with pytest.raises(ValueError, match=r"instruction [\d,]+ is not in the history: that is instruction 0 to"):
        ended.go(beyond)


@pytest.mark.thorough(only=True)
def test_a_budget_drops_checkpoints_and_no_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints_module, "NEAR", 2)
    console = Console(LINES[:-1] * 4 + LINES[-1:])
    with demo(console) as system:
        with pytest.raises(ValueError, match="a history needs at least 8 MiB, and 1000 bytes were given"):
            History(system, 1000)
        history = History(system, LEAST)
        checkpoints = history.checkpoints
        assert history.run().detail == 7
        budget = checkpoints.budget = checkpoints.stored + 1_000_000
        for moment in moments(history, 3, 60):
            history.go(moment)  # takes checkpoints on the way
            assert checkpoints.stored <= budget
        taken = len(checkpoints.kept)
        checkpoints.budget = LEAST
        history.go(history.first)
        for moment in moments(history, 3, 60):
            history.go(moment)
        assert len(checkpoints.kept) > taken
        history.go(history.first)
        assert history.run().detail == 7
