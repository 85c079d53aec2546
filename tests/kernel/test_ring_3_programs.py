"""Programs that do what ring 3 must not: each ends alone, with a report that names what it did."""

import pytest

CRASHES = {
    "r": "#PF page fault: read of 0x00000000, page not present",
    "w": "#PF page fault: write of 0x00400000, protection",
    "k": "#PF page fault: read of 0xc0000000, protection",
    "c": "#GP general protection",
    "i": "#GP general protection, error code 0x0072",
    "h": "#GP general protection, error code 0x0000",
    "p": "#GP general protection, error code 0x0000",
    "x": "#PF page fault: fetch of 0xbfff",
    "g": "#GP general protection",
    "s": "#GP general protection, error code 0x0010",
    "u": "#UD invalid opcode",
    "d": "#DE divide error",
    "t": "#DB debug exception",
    "l": "#GP general protection",
}


@pytest.mark.parametrize("letter", CRASHES)
def test_a_program_that_breaks_a_rule_is_ended_and_no_other(boot, letter: str) -> None:
    run = boot(f"crash {letter}; echo $?; hello after")
    assert run.stop.reason == "exit", run.log
    assert run.output == b"139\nhello from ring 3, arguments: after\n", run.log
    assert any(CRASHES[letter] in line for line in run.log), run.log
    assert run.leaks() == []


def test_crash_without_one_of_its_letters_says_which_there_are(boot) -> None:
    run = boot("".join(f"crash {wrong}; echo $?; " for wrong in ("", "z", "rr", "r s", "-h")) + "true")
    (usage,) = set(run.output.decode().split("2\n")) - {""}
    first, *rows = usage.splitlines()
    assert first == "usage: crash LETTER, which says what ring 3 must not do:"
    assert {row[at] for row in rows for at in (2, 24, 46) if len(row) > at} == set(CRASHES)


def test_processes_that_end_leave_no_frame_held(boot) -> None:
    few = boot("hello; crash r; hello").system.kernel
    many = boot("; ".join(["hello", "crash r"] * 10 + ["hello"])).system.kernel
    assert many.state.low.used == few.state.low.used
    assert len(many.state.tasks.threads) == len(few.state.tasks.threads)
    assert len(many.state.tasks.processes) == len(few.state.tasks.processes)
