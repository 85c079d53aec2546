"""A program that gcc has made, on the guest's volume: gdb finds its symbols and lines when the guest starts it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_programs
import pytest
from callgate.disk.images.builder import create_image
from callgate.disk.media import open_image
from callgate.kernel.abi.calls import SystemCall
from callgate.kernel.abi.selectors import SELECTOR_SYSTEM_GATE
from callgate.kernel.system import System, SystemOptions

SOURCE = f"""\
static int calls;

static void leave(int code) {{
    __asm__ volatile("lcall ${SELECTOR_SYSTEM_GATE}, $0" : : "a"({SystemCall.EXIT}), "b"(code));
}}

struct pair {{ int first, second; }} pairs[] = {{{{3, 4}}, {{5, 6}}}};

int sum(const struct pair *pair) {{
    calls++;
    return pair->first + pair->second;
}}

void start(void) {{
    leave(sum(&pairs[0]) + sum(&pairs[1]));
}}
"""
FLAGS = "-m32 -g -O0 -static -no-pie -nostdlib -ffreestanding -fno-stack-protector -Wl,--build-id=none,-e,start"


@pytest.fixture
def with_program(tmp_path: Path) -> Any:
    """A system whose volume has the program, which its shell starts."""
    trial = host_programs.attempt("gcc", "-m32", "-x", "c", "-S", "-o", "-", "-", data=b"int x;")
    if trial.returncode:
        pytest.skip("gcc makes no 32-bit code (Debian: gcc-multilib)")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "adder.c").write_text(SOURCE)
    host_programs.run(
        "gcc", *FLAGS.split(), "-Wl,-Ttext-segment=0x400000", "adder.c", "-o", "tree/adder", folder=tmp_path
    )
    image = tmp_path / "disk.img"
    create_image(image, tree)
    with System([open_image(image)], SystemOptions(commands="adder; echo $?")) as system:
        yield system


def test_gdb_has_symbols_lines_and_variables_of_a_program_of_the_guests_volume(
    with_program: System, gdb: Callable[..., str], serve: Callable[[System], Any]
) -> None:
    shown: list[bytes] = []
    with_program.machine.serial.output = shown.append
    out = gdb(
        "set breakpoint pending on\nbreak sum if pair->first == 5\ncontinue\nbacktrace\nprint *pair\nprint calls\n"
        "print pairs[1].second = 60\ninfo inferiors\nbreak system_gate\ncontinue\nbacktrace\ndelete\ncontinue\n",
        serving=serve(with_program),
    )
    assert re.search(r'"adder" hit Breakpoint 1.*sum \(pair=0x\w+ <pairs\+8>\) at adder\.c:10', out), out
    assert re.search(r"^#1 .* start \(\) at adder\.c:15$", out, re.MULTILINE)
    assert "$1 = {first = 5, second = 6}" in out
    assert re.search(r"^\$2 = 1$", out, re.MULTILINE)
    assert re.search(r"target:/callgate/started/[0-9a-f]{12}/adder", out)
    assert re.search(
        r"^#0 +system_gate \(\).*\n#1 .* leave \(code=72\) at adder\.c:4\n#2 .* start \(\)", out, re.MULTILINE
    )
    assert b"72" in b"".join(shown), "the kernel has what gdb has changed"
