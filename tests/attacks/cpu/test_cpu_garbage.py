"""Programs of random bytes and of instructions that a CPU refuses: each ends alone, by itself or by being killed.

CALLGATE_GARBAGE is how many there are (default 15); the checks of a change make 600.
"""

import os
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from callgate.asm.assembler.output.elf_format import HEADER, IDENT, PROGRAM_HEADER
from callgate.kernel.abi import memory as layout
from callgate.kernel.core.records import PRIORITY_USER
from callgate.kernel.programs.executable import Executable, parse_elf
from callgate.kernel.watching.leaks import leaks

HELD, KILLED = 0, 9
TOTAL = int(os.environ.get("CALLGATE_GARBAGE", "15"))
IN_ONE_TEST = 15
CODE, DATA = 0x40_0000, 0x50_0000
SIZE = layout.PAGE_SIZE
FUEL = 20_000  # instructions, after which a program that goes on is killed
PREFIXES = b"\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65\x66\x67"
SELECTORS = (0, 3, 8, 0x10, 0x1B, 0x23, 0x28, 0x2B, 0x33, 0x3B, 7, 0xF)
SINGLE = bytes.fromhex("cfcbc39d9cfafbf4cccef16061c9d76c6d6e6fa4a5aaabecedeeef07171f")
LONGER = [b"\x0f" + bytes([byte]) for byte in bytes.fromhex("340507353032310609000120222321aec7b2a20bff")]
LONGER += [bytes([byte]) for byte in bytes.fromhex("8fc4c5fffed8d9dbdd")]


def push(value: int) -> bytes:
    return b"\x68" + struct.pack("<I", value & 0xFFFF_FFFF)


def prefixed(source: random.Random, most: int, code: bytes) -> bytes:
    return bytes(source.choices(PREFIXES, k=source.randrange(most))) + code


def popped(source: random.Random, selector: int) -> bytes:
    """IRETD, RETF or POPFD with flags, a selector and an address of one's choice."""
    words = [source.choice((CODE, source.getrandbits(32))), selector, source.getrandbits(22)]
    pops = source.choice((b"\xcf", b"\xcb", b"\x9d", b"\x66\xcf", b"\xca\x08\x00"))
    return b"".join(map(push, reversed(words))) + pops


def stack(source: random.Random) -> bytes:
    """ESP somewhere else."""
    places = (DATA + 64, CODE, layout.KERNEL_BASE + 64, source.getrandbits(32))
    return b"\xbc" + struct.pack("<I", source.choice(places))


def far(source: random.Random, selector: int) -> bytes:
    """A far CALL or JMP, of a gate with random registers among others."""
    registers = b"\xb8" + bytes([source.randrange(64), 0, 0, 0]) + b"\xbb" + source.randbytes(4)
    return registers + source.choice((b"\x9a", b"\xea")) + struct.pack("<IH", source.choice((0, CODE)), selector)


PIECES: list[Callable[[random.Random, int], bytes]] = [
    lambda source, _: source.randbytes(source.randrange(1, 16)),
    lambda source, _: prefixed(source, 5, bytes([source.choice(SINGLE)])),
    lambda source, _: prefixed(source, 3, source.choice(LONGER) + source.randbytes(6)),
    lambda source, _: b"\xcd" + source.randbytes(1),
    popped,
    far,
    lambda source, selector: b"\x66\xb8" + struct.pack("<H", selector) + b"\x8e" + bytes([0xC0 | source.randrange(64)]),
    lambda source, _: source.choice((b"\xeb", b"\x74", b"\x75", b"\xe2", b"\xe8")) + source.randbytes(1),
    lambda source, _: stack(source),
    lambda source, _: b"\xc7\x44\x24" + source.randbytes(5),
    lambda source, _: bytes([0x40 | source.randrange(16)]) * source.randrange(1, 700),  # a long block
]


def program(seed: int) -> Executable:
    """Return an ELF executable of random instructions in pages that may be executed, with some memory."""
    source = random.Random(seed)
    code = b""
    while len(code) < SIZE:
        code += source.choice(PIECES)(source, source.choice(SELECTORS))
    headers = 2
    offset = HEADER.size + headers * PROGRAM_HEADER.size
    image = HEADER.pack(
        *(IDENT, 2, 3, 1, CODE, HEADER.size, 0, 0),
        *(HEADER.size, PROGRAM_HEADER.size, headers, 0, 0, 0),
    )
    image += PROGRAM_HEADER.pack(1, offset, CODE, CODE, SIZE, SIZE, 5, 0)
    image += PROGRAM_HEADER.pack(1, offset, DATA, DATA, 0, layout.PAGE_SIZE, 6, 0)
    return parse_elf(image + code[:SIZE])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, TOTAL, IN_ONE_TEST))
def test_a_program_of_random_instructions_ends_alone_and_the_emulator_goes_on(
    arena: Callable[..., Any], first: int
) -> None:
    made = arena()
    assert made.run().reason == "halt"
    kept = made.system.snapshot()
    for seed in range(first, first + IN_ONE_TEST):
        made.system.restore(kept)
        victim = made.start("victim")
        kernel = made.kernel
        process = kernel.processes.create("garbage")
        entry = kernel.processes.load(process, program(seed), b"")
        kernel.processes.start(process, entry, priority=PRIORITY_USER)
        made.system.machine.pic.raise_line(4)
        if made.run(FUEL).reason != "halt" and process.exit_code is None:
            kernel.processes.kill(process, KILLED)
        assert made.run().reason == "halt", seed
        assert victim.exit_code == HELD, seed
        assert process.exit_code is not None, seed
        assert leaks(kernel) == [], seed
        assert kernel.check() == [], seed
        assert not any("ring 0" in line for line in made.log), (seed, made.log)
