"""The cost of the exact clock: a plain loop under it, compared with the same loop under Unicorn's own counter.

The figure to hold is a ratio of at least 0.6 (docs/emulator-notes.md has more of them).
"""

import ctypes
import json
import sys
import time
from statistics import median

from callgate.kernel.machine import Machine
from callgate.tools.bench.measuring import timing

LOOP = bytes.fromhex(
    "b9404b4c0083c00131c34975f8f4"
)  # mov ecx, 5000000; l: add eax, 1; xor ebx, eax; dec ecx; jnz l; hlt
CODE = 0x1000
INSTRUCTIONS = 1 + 5_000_000 * 4 + 1
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


def by_count() -> float:
    """Return the seconds that the loop takes under `emu_start(count=)`, without the machine."""
    from unicorn import UC_ARCH_X86, UC_MODE_32, Uc
    from unicorn.unicorn_py3.unicorn import uclib

    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.mem_map(0, 1 << 20)
    uc.mem_write(CODE, LOOP)
    begin = time.perf_counter()
    uclib.uc_emu_start(
        uc._uch, ctypes.c_uint64(CODE), ctypes.c_uint64(0), ctypes.c_uint64(0), ctypes.c_size_t(INSTRUCTIONS)
    )
    return time.perf_counter() - begin


def bench_clock(kind: str = "auto", rounds: int = ROUNDS) -> dict[str, object]:
    """Return the result as `callgate bench clock --json` prints it; times in µs for the whole loop."""
    ours = [exact(kind) for _ in range(rounds)]
    theirs = [by_count() for _ in range(rounds)]
    return {
        "name": "clock",
        "n": rounds,
        "guest_instructions": INSTRUCTIONS,
        "instructions_per_second": round(INSTRUCTIONS / median(ours)),
        "wall_us": timing(ours, 1),
        "count_wall_us": timing(theirs, 1),
        "ratio_to_count": round(median(theirs) / median(ours), 3),
    }


def main() -> None:
    """Print the result as JSON; an argument chooses the counter: auto, native or python."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "auto"
    print(json.dumps([bench_clock(kind)], indent=2))


if __name__ == "__main__":
    main()
