"""The booted system: back at the prompt for each test, policy, servers and all."""

import pickle
from dataclasses import replace

import pytest
from callgate.disk.images.demo import demo_image
from callgate.kernel.machine.snapshot import NotQuiescent
from callgate.tools.asmtest.booted import CommandError
from plugin_runs import run_within

pytest_plugins = ["pytester"]

DIR = "dir /d0p1"


@pytest.fixture(scope="session")
def booted_images(tmp_path_factory):
    return [demo_image(tmp_path_factory.mktemp("demo"))]


def policy(booted):
    state = booted.system.kernel.state
    return sorted(state.hosted), sorted(state.tasks.threads), pickle.dumps(replace(state, hosted={}))


def test_the_same_command_costs_the_same_after_every_restore(booted):
    runs = []
    for _ in range(3):
        booted.reset()
        before = booted.ledger
        runs.append((booted.command(DIR), (booted.ledger - before).as_dict(), policy(booted)))
    assert "README.TXT" in runs[0][0]
    assert runs[0] == runs[1] == runs[2]


def test_a_test_can_end_in_the_middle_of_a_request(booted):
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
        booted.system.restore(snapshot._replace(machine=snapshot.machine._replace(owner=0)))


def panic(booted):
    """Have the kernel find an invalid opcode at its system gate."""
    gate = booted.system.kernel.guest.address("system_gate")
    code = booted.machine.paging.translate(gate, user=False, write=False)
    booted.machine.ram.write(code, b"\x0f\x0b")
    booted.machine.code_changed(code, 2)


def test_a_command_that_does_not_return_is_an_error_with_output_log_and_status(booted):
    with pytest.raises(CommandError, match=r"'dir /d0p1': no end within 2000 instructions\n(?s:.)*status: \$\? is 0"):
        booted.command(DIR, fuel=2_000)


def test_a_command_after_which_the_shell_is_gone_is_an_error(booted):
    with pytest.raises(CommandError, match=r"'exit 3': the shell has ended with status 3\n"):
        booted.command("exit 3")
    with pytest.raises(CommandError, match="the shell has ended with status 3"):
        booted.command("echo hello")


def test_a_panic_is_an_error_with_its_report_and_does_not_affect_the_next_test(booted):
    panic(booted)
    with pytest.raises(CommandError, match=r"the kernel has given up\n(?s:.)*panic:\n  ring 0: #UD (?s:.)*eip="):
        booted.command("echo hello")
    booted.reset()
    assert booted.command("echo hello") == "hello\n"


def test_the_log_and_the_status_are_those_of_the_commands_since_the_reset(booted):
    assert booted.log == []
    assert booted.command("crash u") == ""
    assert booted.status == 139
    assert any("ended by #UD" in line for line in booted.log)
    booted.reset()
    assert (booted.log, booted.status) == ([], 0)


def test_a_failing_test_shows_output_log_and_status_by_itself(pytester):
    pytester.makepyfile("""
        def test_fails(booted):
            booted.command("echo hello")
            booted.command("crash u")
            assert booted.status == 0
        def test_ends(booted):
            booted.command("exit 3")
    """)
    result = run_within(pytester)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines([
        "*booted system*", "output:", "  hello", "log:", "  process * (crash) ended by #UD*", "status: $? is 139; *",
        "*CommandError: 'exit 3': the shell has ended with status 3", "E*output: nothing",
    ])  # fmt: skip
    assert "booted.py" not in result.stdout.str()


def test_a_fixture_of_the_users_own_with_one_of_our_names_is_left_out_of_the_report(pytester):
    pytester.makepyfile("""
        import pytest

        @pytest.fixture
        def booted():
            return "a system of theirs"

        @pytest.fixture
        def bare_cpu():
            return "a CPU of theirs"

        def test_theirs(booted, bare_cpu):
            assert booted == bare_cpu
    """)
    result = run_within(pytester, "--asm-record=found")
    result.assert_outcomes(failed=1)
    assert "AttributeError" not in result.stdout.str()
    assert "a system of theirs" in result.stdout.str()


def test_each_module_has_a_system_with_the_images_that_it_names(pytester, booted_images):
    with_images = f"""
        import pathlib, pytest

        @pytest.fixture(scope="session")
        def booted_images():
            return [pathlib.Path({str(booted_images[0])!r})]

        def test_volumes(booted):
            assert "/d0p1" in booted.command("vol /")
    """
    without = """
        def test_volumes(booted):
            assert "d0p1" not in booted.command("vol /")
    """
    pytester.makepyfile(test_1=with_images, test_2=without, test_3=with_images)
    run_within(pytester).assert_outcomes(passed=3)


def test_a_test_that_closes_its_machine_leaves_the_next_one_another(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("time", range(2))
        def test_booted(booted, time):
            assert booted.command("echo here") == "here\\n"
            booted.system.close()

        @pytest.mark.parametrize("time", range(2))
        def test_bare(bare_cpu, time):
            bare_cpu.load("f: mov eax, 5\\n ret\\n")
            assert bare_cpu.call("f").eax == 5
            bare_cpu.machine.close()
        """
    )
    run_within(pytester).assert_outcomes(passed=4)
