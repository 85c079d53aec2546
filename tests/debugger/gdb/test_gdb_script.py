"""The script for gdb: printers, functions and the command `callgate`, in a real gdb."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_programs
from callgate.kernel.system import System
from callgate.kernel.watching.requests import block_of, endpoint_named
from callgate.tools.debugger.gdb.server import SCRIPT

IN_REQUEST = "break take_slot\ncontinue\ncontinue\ncontinue\ndelete\n"


def refused(command: str) -> str:
    return f"python\ntry: gdb.execute('''{command}''')\nexcept gdb.error as error: print('REFUSED', error)\nend\n"


def test_the_script_prints_endpoints_slots_and_messages_by_name_and_goes_by_phase(
    gdb: Callable[..., str], boot_demo: Callable[[str], System], serve: Callable[[System], Any]
) -> None:
    system = boot_demo("dir", fast_path=False)
    serving = serve(system)
    out = gdb(
        f"source {SCRIPT}\n{refused('print $_endpoint(1)')}{IN_REQUEST}callgate step phase 3\n"
        'print $_endpoint("fat")\nprint/x $_slot("d0p1", 0)\nprint $_message("d0p1", 0).operation\n'
        'print $_message("d0p1", 0)\nprint $_thread_name()\ninfo os endpoints\ncallgate slots d0p1\n'
        + refused('print $_message("d0p1", 9)')
        + refused('print $_slot("d0p1", 32)')
        + refused('print $_endpoint("ext4")')
        + "callgate back phase\nprint $_thread_name()\ndisconnect\n",
        serving=serving,
    )
    endpoint = endpoint_named(system.kernel, "d0p1")
    block = block_of(system.kernel, endpoint)
    record = block.slots[0]
    assert "REFUSED no endpoint 1; there is none yet" in out
    assert re.search(
        r"^\$1 = endpoint 1, 1 posted = {unused = {1-31}, free = {}, .*slot 0 = POSTED, client 0x", out, re.MULTILINE
    )
    assert (
        f"$2 = {{physical = {record.physical:#x}, linear = {record.linear:#x}, selector = {record.selector:#x}" in out
    )
    assert "$3 = LOCK_DIRECTORY\n" in out
    assert re.search(
        r"^\$4 = LOCK_DIRECTORY = {operation = LOCK_DIRECTORY, .*error = OK, .*data = DEMO}", out, re.MULTILINE
    )
    assert re.findall(r'^\$[56] = "(.*)"', out, re.MULTILINE) == ["shell", "shell"]
    assert re.search(rf"^1 +d0p1 +{0xC000_0000 + endpoint.block:#x} +fat16", out, re.MULTILINE)
    assert re.search(r"^  <slot 0 of d0p1: POSTED, client 12 'shell'", out, re.MULTILINE)
    assert "REFUSED slot 9 has never been used: it has no page" in out
    assert "REFUSED slots are 0 to 31, not 32" in out
    assert "REFUSED no endpoint ext4; there is rom, d0p1, d0p2" in out


def test_the_command_that_is_printed_starts_a_gdb_that_has_the_printers(
    boot_demo: Callable[[str], System], serve: Callable[[System], Any], tmp_path: Path
) -> None:
    line = serve(boot_demo("dir")).said[1].partition("commands: ")[2]
    program, *arguments = shlex.split(line)
    asked = ("-ex", "print $_thread_name()", "-ex", "help catch call", "-ex", "kill")
    out = host_programs.run(program, "-nx", "-batch", *arguments, *asked, HOME=str(tmp_path))
    assert re.search(r'^\$1 = "boot"$', out, re.MULTILINE)
    assert "stop where a gate is called" in out
