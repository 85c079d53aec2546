"""The kernel's routines on a bare CPU: linked where they run, with actions of another CPU or a device in between."""

from functools import cache

from callgate.asm.assembler.cache import assemble_cached
from callgate.kernel.abi.memory import KERNEL_BASE, KERNEL_LOAD
from callgate.kernel.programs.images import source
from callgate.tools.asmtest.objects.linking import placed

ENDPOINT, THREAD = 0x1_0000, 0x1_2000


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
