"""The cost of the exact clock: a loop of 6 plain instructions under it, and under the engine with no hook at all.

The figure to hold is a ratio of at least 0.45 to the engine; that to Unicorn's own counter (`emu_start(count=)`) says
what exactness would cost without blocks.
"""

import ctypes
import json
import sys
import time
from statistics import median

from callgate.kernel.machine import Machine
from callgate.tools.bench.measuring import timing

TURNS = 20_000_000
# mov ecx, TURNS; l: add eax, 1; xor ebx, eax; inc edx; dec esi; dec ecx; jnz l; hlt
LOOP = b"\xb9" + TURNS.to_bytes(4, "little") + bytes.fromhex("83c00131c3424e4975f6f4")
CODE = 0x1000
INSTRUCTIONS = 1 + TURNS * 6 + 1
SHORT = 12  # `emu_start(count=)` executes this part of it
ROUNDS = 5


def exact(kind: str) -> float:
    """Return the seconds that the loop takes under the machine's clock."""
    with Machine(memory=4 << 20, high_memory=0, counter=kind) as machine:
        machine.ram.write(CODE, LOOP)
        machine.cpu.eip = CODE
        begin = time.perf_counter()
        stop = machine.run()
        elapsed = time.perf_counter() - begin
        if stop.retired != INSTRUCTIONS:
            raise RuntimeError(f"the clock counted {stop.retired} instructions, not {INSTRUCTIONS}")
        return elapsed


def by_engine(count: int = 0) -> float:
    """Return the seconds that the loop takes in the engine without a hook; `count` bounds the instructions."""
    from unicorn import UC_ARCH_X86, UC_MODE_32, Uc
    from unicorn.unicorn_py3.unicorn import uclib

    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.mem_map(0, 1 << 20)
    uc.mem_write(CODE, LOOP)
    begin = time.perf_counter()
    uclib.uc_emu_start(uc._uch, ctypes.c_uint64(CODE), ctypes.c_uint64(0), ctypes.c_uint64(0), ctypes.c_size_t(count))
    return time.perf_counter() - begin


def bench_clock(kind: str, rounds: int = ROUNDS) -> dict[str, object]:
    """Return the element of one kind of clock; times in µs for the whole loop.  OSError if the host cannot have it."""
    # By turns, so that what else the host does meets all of them.
    times = [(exact(kind), by_engine(), by_engine(INSTRUCTIONS // SHORT) * SHORT) for _ in range(rounds)]
    ours, theirs, counted = (list(column) for column in zip(*times, strict=True))
    return {
        "name": f"clock-{kind}",
        "n": rounds,
        "guest_instructions": INSTRUCTIONS,
        "instructions_per_second": round(INSTRUCTIONS / median(ours)),
        "wall_us": timing(ours, 1),
        "engine_wall_us": timing(theirs, 1),
        "count_wall_us": timing(counted, 1),
        "ratio_to_engine": round(median(engine / mine for mine, engine, _ in times), 3),
        "ratio_to_count": round(median(count / mine for mine, _, count in times), 3),
    }


def main() -> None:
    """Print the result as JSON; an argument chooses the counter: blocks, native or python."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "native"
    print(json.dumps([bench_clock(kind)], indent=2))


if __name__ == "__main__":
    main()
