"""What can be told of a block from its bytes alone: where its instructions begin, and whether it can be plain.

A plain block holds nothing at which the machine can be observed or stopped: no port, no instruction that the engine
hands to Python.  Whether there is a site in it depends on the machine (`machine.blocks.block_counter`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from callgate.kernel.machine.cpu.translations import block_answers, decoder

Shape = tuple[int, ...]  # offsets of the instructions
# IN and OUT in all forms, and what the engine asks Python for.
ASKED: Final = frozenset({"in", "out", "rdtsc", "rdtscp", "sysenter", "syscall", "sysexit", "sysret"})
STRINGS: Final = ("ins", "outs")  # with any REP in front, and any size behind
# With an operand in memory: the engine works out the flags, and forgets what they come from, before it comes to memory.
# If that faults, only the hook knows the flags (`machine.cpu.traps`).
EARLY: Final = ("set", "rcl", "rcr")
CONTROL: Final = ("cr0", "cr4")
# They leave OF, SF, AF and PF undefined (Intel SDM vol. 2A).  The engine clears OF and AF, or keeps them after an
# instruction that is hooked: what a program sees must not depend on how it is executed.
BIT_TESTS: Final = frozenset({"bt", "bts", "btr", "btc"})


class Contents(NamedTuple):
    """The instructions of a block: `shape` is None if the decoder and the engine do not agree about them.

    `turns_paging` is whether it may turn paging on or off, `writes_msr` whether it may change EFER, `tests_bits`
    whether it leaves flags that are undefined.
    """

    shape: Shape | None
    plain: bool = False
    turns_paging: bool = False
    writes_msr: bool = False
    tests_bits: bool = False


UNKNOWN: Final = Contents(None)


@lru_cache(maxsize=1 << 15)
def contents(code: bytes, instructions: int) -> Contents:
    """Return the contents of a block that holds a number of instructions, as the engine says.

    Machines execute the same code again and again: it is remembered for all machines of the process, and for later
    processes, which then need not import the decoder.
    """
    shape, *rest = block_answers.ask("contents", code, instructions, lambda: _contents(code, instructions))
    return UNKNOWN if shape is None else Contents(tuple(shape), *rest)


def _contents(code: bytes, instructions: int) -> list[list[int] | bool | None]:
    """Return the fields of `Contents`, the shape as a list."""
    shape: list[int] = []
    plain, turns_paging, writes_msr, tests_bits, end = True, False, False, False, 0
    for at, size, mnemonic, operands in decoder().disasm_lite(code, 0):
        shape.append(at)
        end = at + size
        name = mnemonic.rpartition(" ")[2]
        if name in ASKED or name.startswith(STRINGS) or (name.startswith(EARLY) and "[" in operands):
            plain = False
        elif name in BIT_TESTS:
            tests_bits = True
        elif name == "wrmsr":
            writes_msr = True
        elif name == "lmsw" or (name == "mov" and operands.startswith(CONTROL)):
            turns_paging = True
    if end != len(code) or len(shape) != instructions:
        return [None, False, False, False, False]
    return [shape, plain, turns_paging, writes_msr, tests_bits]
