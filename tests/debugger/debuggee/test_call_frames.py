"""Call frame information as the debugger reads it, compared with what readelf reads in the same file."""

import re
from collections.abc import Callable
from pathlib import Path

import host_programs
from callgate.kernel.system import System
from callgate.tools.debugger.attached import attach
from callgate.tools.debugger.debuggee.call_frames import table
from callgate.tools.debugger.debuggee.programs import debug_file

ROW = re.compile(r"^([0-9a-f]{8}) (e[bs]p)\+(\d+)", re.MULTILINE)
NUMBERS = {"esp": 4, "ebp": 5}
WORD = 0xFFFF_FFFF


def test_the_frame_at_each_address_of_the_kernel_is_where_readelf_says(tmp_path: Path) -> None:
    content = debug_file("kernel")
    (tmp_path / "kernel.elf").write_bytes(content)
    shown = host_programs.run("readelf", "--debug-dump=frames-interp", tmp_path / "kernel.elf")
    theirs = {int(at, 16): (NUMBERS[register], int(offset)) for at, register, offset in ROW.findall(shown)}
    del theirs[0]  # rows of what several routines share
    starts, rules = table(content)
    ours = {at: (row["cfa"].reg, row["cfa"].offset & WORD) for at, (_, _, row) in zip(starts, rules, strict=True)}
    assert len(theirs) > 500
    assert {at: ours[at] for at in theirs} == theirs


def test_a_backtrace_at_the_first_instruction_of_a_routine_shows_its_callers(
    boot_demo: Callable[[str], System],
) -> None:
    with attach(boot_demo("df")) as debugger:
        debugger.run("take_slot", "thread == 12")
        routines = [frame.symbol.partition("+")[0] for frame in debugger.backtrace()]
    kernel = ["take_slot", "ipc_request", "run_coroutine", "system_policy"]
    assert routines == [*kernel, "command_df", "run_line", "start"]  # as gdb has it, docs/debugging.md
