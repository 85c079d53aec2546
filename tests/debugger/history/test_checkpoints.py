"""Checkpoints of a history: when they are taken, what they share, and which are dropped."""

import pickle
from collections.abc import Callable

import pytest
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.machine.memory.page_versions import PageVersions
from callgate.kernel.machine.observation.ledger import Ledger
from callgate.kernel.machine.observation.position import Position
from callgate.kernel.system import System
from callgate.kernel.watching.snapshots.kept_records import Kept
from callgate.kernel.watching.snapshots.server_copies import ServerCopy
from callgate.kernel.watching.snapshots.system_snapshots import under_way
from callgate.tools.debugger.history import History, repeating, searching
from callgate.tools.debugger.history import checkpoints as module
from callgate.tools.debugger.history import history as history_module
from callgate.tools.debugger.history.pacing import CHECKPOINT_SECONDS, LONGEST_SECONDS, pause_after


def test_a_checkpoint_that_has_cost_much_does_not_put_the_next_one_off_for_long() -> None:
    assert pause_after(0.0) == pause_after(0.0001) == CHECKPOINT_SECONDS
    assert pause_after(0.002) == pytest.approx(0.04)
    assert pause_after(1.0) == LONGEST_SECONDS


def test_records_of_policy_that_several_checkpoints_share_are_counted_once(
    boot_demo: Callable[[str], System],
) -> None:
    with boot_demo("df") as system:
        system.run(until=lambda: system.kernel.state.tasks.shell >= 0 and under_way(system.kernel) is None)
        history = History(system)
        checkpoints = history.checkpoints
        for _ in range(4):
            history.run(fuel=1)
            history.keep_checkpoint()
        kept = [checkpoint.snapshot for checkpoint in checkpoints.kept]
        first = kept[0]
        held = pickle.dumps((first.machine.devices, first.machine.ledger))
        assert module.BESIDE // 2 < len(held) < 2 * module.BESIDE
        assert system.snapshots.records.copied == len(first.records), "none but those of the first"
        assert all(snapshot.records is first.records for snapshot in kept)
        stored = history.target.kept_bytes
        shared = sum(record.size for record in first.records)
        shared += sum(server.size + server.own.size for server in first.servers.values() if server.own is not None)
        shared += sum(part.size for server in first.servers.values() for part in server.parts.values())
        assert history.target.kept_bytes == stored == shared > 10_000
        rest = sum(len(snapshot.machine.cpu) + module.BESIDE for snapshot in kept)
        assert checkpoints.stored == rest + shared + checkpoints.versions.stored


def test_copies_of_records_and_servers_take_memory_until_the_last_checkpoint_that_has_them_is_dropped(
    boot_demo: Callable[[str], System],
) -> None:
    with boot_demo("ls -l; cat README.TXT; ls -l /d0p2; cat README.TXT") as system:
        history = History(system)
        history.run(until=lambda: system.kernel.state.tasks.shell >= 0)
        while not history.keep_checkpoint():
            history.step()
        begun, bytes_then = history.checkpoints.kept[-1], history.target.kept_bytes
        assert bytes_then > 10_000
        while history.run(fuel=1000).reason != "exit":
            history.keep_checkpoint()
        grown = history.target.kept_bytes
        assert grown > bytes_then + 10_000
        history.go(begun.moment)
        history.checkpoints.forget_after(begun.moment)
        assert history.target.kept_bytes == bytes_then


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
        later = system.snapshot()
        names = {number: server.geometry.name for number, server in system.kernel.hosted.servers.items()}
        assert [names[number] for number in ran] == ["d0p1"]
        assert {number for number in names if later.servers[number] is not before.servers[number]} == ran
        history.go(checkpoint.moment)
        again = system.snapshot()
        assert all(again.servers[number] is before.servers[number] for number in names), "after going back as well"


def test_a_checkpoint_that_fails_or_is_interrupted_leaves_the_history_as_it_was(
    boot_demo: Callable[[str], System], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(history_module, "pause_after", lambda _cost: 1e9)  # none is taken but by this test
    with boot_demo("df") as system:
        history = History(system)
        checkpoints, versions = history.checkpoints, history.checkpoints.versions
        history.run(until=lambda: system.kernel.state.tasks.shell >= 0)
        while under_way(system.kernel) is not None or versions.has(history.moment):
            history.step()
        before, begin = ([*checkpoints.kept], [*versions.keys], checkpoints.size), history.moment
        for owner, name in ((Kept, "holds"), (ServerCopy, "_take_apart"), (Ledger, "save"), (PageVersions, "_keep")):
            with monkeypatch.context() as patched:
                patched.setattr(owner, name, refuse)
                with pytest.raises(KeyboardInterrupt):
                    checkpoints.take(begin)
            assert (checkpoints.kept, versions.keys, checkpoints.size) == before
        checkpoints.take(begin)
        with pytest.raises(ValueError, match="has been kept"):
            checkpoints.take(begin)
        end = history.run().reason, history.moment
        history.go(begin)
        assert (history.run().reason, history.moment) == end


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


def test_a_checkpoint_that_is_due_is_taken_after_the_first_host_call_that_leaves_policy_at_rest(
    boot_demo: Callable[[str], System], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "pause_after", lambda _cost: 0.0)  # one is due at any time
    with boot_demo("df") as system:
        at_rest: list[Position] = []
        history = History(system)
        seen = system.machine.host_calls.answered
        assert seen is not None

        def answered() -> None:
            if under_way(system.kernel) is None:
                at_rest.append(system.machine.position)
            seen()

        system.machine.host_calls.answered = answered
        history.run()
        kept = [checkpoint.moment.position.retired for checkpoint in history.checkpoints.kept]
        # The position within a host call is that of its OUT; where the run has ended there is nothing to keep.
        expected = [position.retired for position in at_rest[:-1]]
        assert len(expected) > 10
        assert [place for place in expected if place not in kept and place + 1 not in kept] == []


def test_a_search_keeps_checkpoints_after_host_calls_on_its_way(
    boot_demo: Callable[[str], System], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "pause_after", lambda _cost: 1e9)
    monkeypatch.setattr(searching, "SEARCH_SECONDS", 0.0)
    with boot_demo("df") as system:
        history = History(system)
        history.run()
        before = len(history.checkpoints.kept)
        assert history.back_to(lambda _stop: False) is None
        assert before == 1
        assert len(history.checkpoints.kept) > 10
        assert history.moment == history.first


def test_a_run_in_which_every_host_call_pauses_ends_like_one_without_pauses(
    boot_demo: Callable[[str], System], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    for pause in (0.0, 1e9):
        monkeypatch.setattr(history_module, "pause_after", lambda _cost, pause=pause: pause)
        with boot_demo("ls; df") as system:
            history = History(system)
            stop = history.run(until="ipc.reply")
            at = history.moment
            history.run(fuel=3)
            ends.append((stop.retired, stop.reason, at, history.moment, history.run()))
    assert ends[0] == ends[1]


def test_every_page_of_high_memory_that_the_host_has_a_copy_of_is_marked_as_written(
    boot_demo: Callable[[str], System],
) -> None:
    with boot_demo("cat PATTERN.BIN; df") as system:
        system.snapshot()
        high = system.machine.ram.regions[1]
        while system.machine.run(fuel=20_000).reason == "fuel":
            known, marked = (
                {page for start, end in runs for page in range(start, end, PAGE_SIZE)}
                for runs in (high.page_map.private_copies(), high.written())
            )
            assert known <= marked
        assert len(known) > 100, "pages of files"
        assert len(marked - known) < len(known) // 10, "reading leaves no mark"


def test_on_a_host_that_runs_something_else_as_well_cpu_time_is_not_asked_for_at_each_host_call(
    boot_demo: Callable[[str], System], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy:
        """A host that gives this process a tenth of the time; each look at the clock comes a millisecond later."""

        wall = 0.0
        asked = 0

        def perf_counter(self) -> float:
            self.wall += 0.001
            return self.wall

        def process_time(self) -> float:
            self.asked += 1
            return self.wall / 10

    with boot_demo("df") as system:
        history = History(system)
        monkeypatch.setattr(repeating, "time", host := Busy())
        answered = system.machine.host_calls.answered
        assert answered is not None
        with history.pausing(1.0):
            while system.machine.control.request is None:
                answered()
    assert 9.99 < host.wall < 10.1, "it pauses as soon as the CPU time has been spent"
    assert host.asked < 100, "of ten thousand host calls"
