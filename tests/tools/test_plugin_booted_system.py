"""The booted system: back at the prompt for each test, policy, servers and all."""

import pickle
from dataclasses import replace

import pytest
from callgate.disk.demo import demo_image
from callgate.kernel.machine.snapshot import NotQuiescent

DIR = "dir /d0p1"


@pytest.fixture(scope="session")
def booted_images(tmp_path_factory):
    return [demo_image(tmp_path_factory.mktemp("demo"))]


def policy(booted):
    managers = dict(booted.system.kernel.state.managers)
    hosted = managers.pop("hosted")
    return sorted(hosted), sorted(booted.system.kernel.state.threads), pickle.dumps(sorted(managers))


def test_the_same_command_costs_the_same_after_every_restore(booted):
    runs = []
    for _ in range(3):
        booted.reset()
        before = booted.ledger
        runs.append((booted.command(DIR), (booted.ledger - before).as_dict(), policy(booted)))
    assert "README.TXT" in runs[0][0]
    assert runs[0] == runs[1] == runs[2]


def test_a_run_can_be_left_in_the_middle_of_a_request(booted):
    before = policy(booted)
    booted.type(DIR)
    assert booted.run(until="ipc.reply").detail.kind == "ipc.reply"
    booted.reset()
    assert policy(booted) == before
    assert booted.system.kernel.coroutines.alive == 0
    assert "README.TXT" in booted.command(DIR)


def test_a_snapshot_in_the_middle_of_a_request_is_refused(booted):
    system = booted.system
    booted.type(DIR)

    while not (system.kernel.hosted.running or system.kernel.coroutines.alive):
        stop = system.run(fuel=50)
        assert stop.reason == "fuel"
    with pytest.raises(NotQuiescent, match="run on until"):
        system.snapshot()


def test_a_restored_system_can_end_and_begin_again(booted):
    booted.type("exit 3")
    booted.run()
    assert booted.system.exit_code == 3
    booted.reset()
    assert booted.system.exit_code is None
    assert "hello" in booted.command("echo hello")


def test_a_snapshot_belongs_to_one_system(booted):
    snapshot = booted.system.snapshot()
    with pytest.raises(ValueError, match="only by the machine that took it"):
        booted.system.restore(replace(snapshot, machine=replace(snapshot.machine, owner=0)))
