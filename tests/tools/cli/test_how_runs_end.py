"""The one line about a run that the guest has not ended, and `make boot`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_programs
import pytest
from callgate.kernel.machine import Stop
from callgate.kernel.programs.images import kernel_image
from callgate.kernel.system import System, SystemOptions
from callgate.tools.session.summary import summary

MAKEFILE = Path(__file__).parents[3] / "Makefile"


@pytest.mark.parametrize(
    ("fuel", "command", "doing"),
    [
        (3, "true", r"kernel thread init ran at 0x001[0-9a-f]{5}"),
        (1800, "true", r"kernel thread mount d0 ran at 0xc01[0-9a-f]{5} <\w+\+0x[0-9a-f]+>"),
        (2100, "true", r"kernel thread mount d0 waits for a disk"),
        (1_500_000, "crc32 PATTERN.BIN", r"shell \(process \d+\) ran at 0x0040[0-9a-f]{4} <\w+(\+0x[0-9a-f]+)?>"),
    ],
)
def test_a_run_out_of_fuel_reports_its_instructions_and_the_running_thread(
    command_line: Callable[..., Any], fuel: int, command: str, doing: str
) -> None:
    outcome = command_line("boot", "-q", "--fuel", str(fuel), "-c", command)
    line = rf"callgate: out of fuel after {fuel} instructions, \d+\.\d{{3}} ms of virtual time; {doing}\n"
    assert (outcome.status, bool(re.fullmatch(line, outcome.messages))) == (4, True), outcome.messages


@pytest.mark.parametrize(
    ("reason", "number", "begin"),
    [
        ("interrupted", 0, "interrupted"),
        ("interrupted", 15, "ended by SIGTERM"),
        ("fuel", 0, "out of fuel"),
        ("triple-fault", 0, "ended by a triple fault"),
        ("halt", 0, "halted: nothing can end the HLT"),
    ],
)
def test_every_end_of_a_run_has_the_same_summary(reason: str, number: int, begin: str) -> None:
    with System([], SystemOptions(shell=False)) as system:
        place = kernel_image().entry
        stop = Stop(reason, 1, place, clock=2_500_000)
        where = system.machine.name_address(place)
        assert summary(system, stop, number) == (
            f"{begin} after 1 instruction, 2.500 ms of virtual time; kernel thread init ran at {where}"
        )


@pytest.mark.parametrize(("status", "made"), [(0, 0), (130, 0), (3, 2)])
def test_make_boot_fails_unless_the_session_was_left_with_ctrl_bracket(tmp_path: Path, status: int, made: int) -> None:
    recipe = re.search(r"^boot:.*\n(\t.*\n)+", MAKEFILE.read_text("utf-8"), re.MULTILINE)
    assert recipe is not None
    callgate = tmp_path / "callgate"
    callgate.write_text(f"#!/bin/sh\nexit {status}\n")
    callgate.chmod(0o755)
    (tmp_path / "Makefile").write_text(f"BIN := {tmp_path}\n{recipe[0].replace('$(STAMP)', '')}")
    assert host_programs.attempt("make", "-s", "-C", tmp_path, "boot").returncode == made
