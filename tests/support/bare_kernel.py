"""The kernel's routines on a bare CPU: linked where they run, with actions of another CPU or a device in between."""

from functools import cache

import pytest
from callgate.asm.assembler.cache import assemble_cached
from callgate.kernel.abi.memory import KERNEL_BASE, KERNEL_LOAD
from callgate.kernel.programs.images import source
from callgate.tools.asmtest.board.result import RoutineError
from callgate.tools.asmtest.objects.linking import placed

ENDPOINT, THREAD = 0x1_0000, 0x1_2000
FRAME = 0x5_0000  # where the GateFrame or TrapFrame of `ended_at` lies


@cache
def unit():
    """Return the kernel, linked where it runs, with a smaller POLL_LIMIT: dead hardware is found faster."""
    origin, path = KERNEL_BASE + KERNEL_LOAD, source("callgate.asm.kernel", "kernel.asm")
    return placed(assemble_cached(path, origin=origin, load=KERNEL_LOAD, entry="start", defines={"POLL_LIMIT": 20}))


def load(cpu):
    """Put the kernel into memory; FS is a thread and GS an endpoint, both empty."""
    cpu.use(unit())
    cpu.segment("gs", ENDPOINT)
    cpu.segment("fs", THREAD)
    return cpu


def meanwhile(cpu, routine, mnemonic, change, after=0):
    """Do `change()` once, before the first instruction with a mnemonic after a label."""
    program = cpu.program
    start = program.address(routine)
    at = next(line.address for line in program.lines if line.address >= start + after and mnemonic in line.text)
    done = []

    def hit():
        if not done:
            done.append(change())

    return cpu.machine.probing(at, hit)


def ended_at(cpu, routine, label, **registers):
    """Go to a routine that finds its frame at FRAME; it must come to a label, and the run ends an instruction later."""
    start = cpu.program.address(label)
    at = min(line.address for line in cpu.program.lines if line.address > start)
    stopped = cpu.machine.probing(at, lambda: cpu.machine.request_stop("there"))
    with stopped, pytest.raises(RoutineError, match="there"):
        cpu.call(routine, esp=FRAME + 4, **registers)
