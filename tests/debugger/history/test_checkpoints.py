"""Checkpoints of a history: when they are taken, what they share, and which are dropped."""

from collections.abc import Callable

import pytest
from callgate.kernel.system import System
from callgate.tools.debugger.history import History
from callgate.tools.debugger.history import checkpoints as module
from callgate.tools.debugger.history.pacing import CHECKPOINT_SECONDS, LONGEST_SECONDS, pause_after


def test_a_checkpoint_that_has_cost_much_does_not_put_the_next_one_off_for_long() -> None:
    assert pause_after(0.0) == pause_after(0.0001) == CHECKPOINT_SECONDS
    assert pause_after(0.001) == pytest.approx(0.03)
    assert pause_after(1.0) == LONGEST_SECONDS


def test_records_of_policy_that_several_checkpoints_share_are_counted_once(
    boot_demo: Callable[[str], System],
) -> None:
    with boot_demo("df") as system:
        history = History(system)
        checkpoints = history.checkpoints
        for _ in range(4):
            history.run(fuel=1)
            history.keep_checkpoint()
        kept = [checkpoint.snapshot for checkpoint in checkpoints.kept]
        assert {id(snapshot.policy) for snapshot in kept} == {id(kept[0].policy)}
        rest = sum(len(snapshot.machine.cpu) + len(snapshot.machine.plain) for snapshot in kept)
        assert checkpoints.size == rest + len(kept[0].policy)
        history.go(history.first)
        checkpoints.forget_after(history.first)
        assert checkpoints.size == len(kept[0].machine.cpu) + len(kept[0].machine.plain) + len(kept[0].policy)


def test_servers_whose_python_has_not_run_since_are_shared_by_checkpoints(
    boot_demo: Callable[[str], System],
) -> None:
    with boot_demo("cat README.TXT") as system:
        history = History(system)
        history.run(until=lambda: system.kernel.state.tasks.shell >= 0)
        while not history.keep_checkpoint():
            history.step()
        checkpoint = history.checkpoints.kept[-1]
        before = checkpoint.snapshot
        history.run()
        ran = {number for number, count in system.kernel.hosted.changes.items() if count != before.changes[number]}
        later = system.snapshot(since=before)
        names = {number: server.geometry.name for number, server in before.servers.items()}
        assert [names[number] for number in ran] == ["d0p1"]
        assert {number for number in names if later.servers[number] is not before.servers[number]} == ran
        history.go(checkpoint.moment)
        again = system.snapshot(since=before)
        assert all(again.servers[number] is before.servers[number] for number in names), "after going back as well"


def test_the_checkpoint_that_is_dropped_first_lies_close_to_its_neighbours_by_time(
    boot_demo: Callable[[str], System], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RELIEF", 1 << 40)
    with boot_demo("df") as system:
        history = History(system)
        checkpoints = history.checkpoints
        spent = [1.0, 1.0, 0.25, 1.0, *[1.0] * module.NEAR]  # each after one instruction
        for seconds in spent[:-1]:
            history.run(fuel=1)
            checkpoints.take(history.moment, seconds)
        checkpoints.budget = checkpoints.stored + 100  # less than one takes
        history.run(fuel=1)
        checkpoints.take(history.moment, spent[-1])
        efforts = [checkpoint.effort for checkpoint in checkpoints.kept]
        assert efforts == [0.0, 1.0, *[2.25 + number for number in range(2 + module.NEAR)]][: len(efforts)]
