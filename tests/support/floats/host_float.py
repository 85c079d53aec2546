"""The host's own CPU at instructions of SSE and x87: an oracle for the emulated one."""

import platform
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from callgate.kernel.abi.fpu import FloatingPointArea

SOURCE = Path(__file__).with_suffix(".c")
REQUEST = struct.Struct("<B15siIII512s512s")
ANSWER = struct.Struct("<IIIIII512s512s")
SIGILL, SIGFPE, SIGSEGV = 4, 8, 11
GENERAL_PROTECTION = 128  # si_code SI_KERNEL: a fault that has no address
UNMAPPED = -1024  # an offset


def fresh() -> FloatingPointArea:
    """Return the registers as FNINIT and a reset leave them."""
    return FloatingPointArea(control=0x37F, mxcsr=0x1F80)


@dataclass
class Request:
    """An instruction, which may address memory by ECX, and what it finds."""

    code: bytes
    area: FloatingPointArea = field(default_factory=fresh)
    memory: bytes = b""
    offset: int = 0  # of [ECX] in `memory`
    eax: int = 0
    edx: int = 0
    eflags: int = 0x202


@dataclass(frozen=True)
class Answer:
    """The result of a CPU: `signal` 0 if the instruction was executed."""

    signal: int
    reason: int
    eax: int
    edx: int
    ecx: int
    eflags: int
    memory: bytes
    area: FloatingPointArea


@cache
def program() -> str:
    """Return the path of the oracle, compiled; None: the caller has to skip."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if platform.machine() != "x86_64" or platform.system() != "Linux" or compiler is None:
        pytest.skip("the host's CPU is not an oracle: x86-64 Linux and a C compiler are needed")
    if "sse4_2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("the host's CPU is not an oracle: it has no SSE4.2")
    target = Path(mkdtemp(prefix="host-float-")) / "host-float"
    subprocess.run([compiler, "-O1", "-o", target, SOURCE], check=True)
    return str(target)


def ask(requests: Sequence[Request]) -> list[Answer]:
    """Execute each request on the host's CPU."""
    data = b"".join(
        REQUEST.pack(
            len(request.code), request.code, request.offset, request.eax, request.edx, request.eflags,
            request.memory, bytes(request.area),
        )
        for request in requests
    )  # fmt: skip
    done = subprocess.run([program()], input=data, capture_output=True, check=True).stdout
    answers = [ANSWER.unpack_from(done, at) for at in range(0, len(done), ANSWER.size)]
    assert len(answers) == len(requests)
    return [Answer(*values[:7], FloatingPointArea.from_buffer_copy(values[7])) for values in answers]
