"""A real gdb that changes registers other than the general ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from callgate.kernel.system import System

IN_REQUEST = "break take_slot\ncontinue\ncontinue\ncontinue\ndelete\n"
FRESH = "maintenance flush register-cache\n"


def refused(command: str) -> str:
    return f"python\ntry: gdb.execute('''{command}''')\nexcept gdb.error as error: print('REFUSED', error)\nend\n"


def test_gdb_sets_vector_x87_segment_and_control_registers_and_is_told_why_it_cannot(
    gdb: Callable[..., str], boot_demo: Callable[[str], System], serve: Callable[[System], Any]
) -> None:
    system = boot_demo("dir")
    serving = serve(system)
    out = gdb(
        IN_REQUEST
        + "set $xmm0.v2_int64[1] = 0x1122334455667788\nset $xmm7.v4_float[1] = 1.5\nset $mxcsr = 0x7f80\n"
        + "set $st0 = -2.5\nset $fctrl = 0xc7f\nset $ftag = 0xfffc\nset $gs = 0x10\nset $cr2 = 0x1234\n"
        + f"{FRESH}print/x $xmm0.v2_int64\nprint $xmm7.v4_float\nprint $st0\nprint/x $fctrl\nprint/x $ftag\n"
        + "print $gs_base\nprint $mxcsr\nprint/x $cr2\n"
        + "thread 2.1\nset $xmm1.uint128 = 77\n" + FRESH + "print $xmm1.uint128\nthread 5.1\nprint $xmm1.uint128\n"
        + "".join(map(refused, ("set $gs = 0xfff8", "set $ss = 0x23", "set $cr4 = 0", "set $mxcsr = 0x10000",
                                "set $gs_base = 5", "set $efer = 0", "set $fop = 1")))
        + "monitor where\nreverse-stepi\nset $xmm0.uint128 = 1\nmonitor goto end\nmonitor where\ndisconnect\n",
        serving=serving,
    )  # fmt: skip
    values = re.findall(r"^\$\d+ = (.*)$", out, re.MULTILINE)
    assert values[:8] == [
        "{0x0, 0x1122334455667788}", "{0, 1.5, 0, 0}", "-2.5", "0xc7f", "0xfffc", "0",
        "[ IM DM ZM OM UM PM ]", "0x1234",
    ]  # fmt: skip
    assert values[8:] == ["77", "0"]
    told = re.findall(r"^REFUSED (.*)$", out, re.MULTILINE)
    for text, why in zip(told, ("beyond the table", "in ring 0: GP", "PAE", "reserved", "change gs", "WRMSR", "keep"),
                         strict=True):  # fmt: skip
        assert why in text
    where, after = re.findall(r"^instruction ([\d,]+)", out, re.MULTILINE)
    assert int(after.replace(",", "")) == int(where.replace(",", "")) - 1, "what came after the change is forgotten"
