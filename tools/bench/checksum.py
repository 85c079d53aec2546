"""The speed of a program that reads file data: the shell's `crc32` of a cached file, in guest instructions a second.

The figure beside it is that of the engine without a hook, which executes the same routine over plain memory.  There is
one difference: file data are loaded from memory above 4 GiB, where each byte is counted.
"""

from __future__ import annotations

import ctypes
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageFile
from callgate.kernel.programs.images import program_image
from callgate.kernel.system import System, SystemOptions
from callgate.tools.bench.measuring import BenchmarkError, timing
from callgate.tools.bench.reading import BIG, pattern

PROGRAM, DATA = 0x40_0000, 0x100_0000  # where programs lie; far enough after them
TURN, AT_ONCE = 23, 8  # instructions and bytes of a turn of the loop in asm/user/shell/commands/shell_crc.asm
CHUNK = 5_000_000


def by_engine(data: bytes) -> float:
    """Return the seconds that the shell's routine takes in the engine without a hook."""
    from unicorn import UC_ARCH_X86, UC_MODE_32, Uc
    from unicorn.unicorn_py3.unicorn import uclib
    from unicorn.x86_const import UC_X86_REG_EAX, UC_X86_REG_ECX

    shell = program_image("shell")
    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.mem_map(PROGRAM, DATA + BIG - PROGRAM)
    for section in shell.sections:
        uc.mem_write(section.address, bytes(section.data))
    uc.mem_write(DATA, data)
    uc.reg_write(UC_X86_REG_EAX, DATA)
    uc.reg_write(UC_X86_REG_ECX, BIG)
    begin, end = (ctypes.c_uint64(shell.address(name)) for name in ("crc_add", "crc_added"))
    started = time.perf_counter()
    uclib.uc_emu_start(uc._uch, begin, end, ctypes.c_uint64(0), ctypes.c_size_t(0))
    return time.perf_counter() - started


def bench_checksum(kind: str, rounds: int) -> dict[str, Any]:
    """Return the element of one kind of clock: seconds of `crc32` of a cached file of 30 MiB."""
    data, ours, theirs, counts = pattern(BIG), [], [], []
    shown = bytearray()
    with tempfile.TemporaryDirectory() as folder:
        tree, image = Path(folder, "tree"), Path(folder, "image")
        tree.mkdir()
        (tree / "BIG.BIN").write_bytes(data)
        create_image(image, tree, fs="fat16", size=96 << 20)
        options = SystemOptions(
            memory=128 << 20,
            commands="; ".join(["crc32 /d0/BIG.BIN"] * (rounds + 2)),
            counter=kind,
            output=shown.extend,
        )
        system = System([ImageFile(image)], options)
        try:
            while shown.count(b"\n") <= rounds:
                lines, retired, begin = shown.count(b"\n"), system.machine.clock.retired, time.perf_counter()
                while shown.count(b"\n") == lines:
                    if system.run(fuel=CHUNK).reason != "fuel":
                        raise BenchmarkError(f"crc32 did not come to its end: {bytes(shown[-80:])!r}")
                if lines:  # the first time the file is not in the cache
                    ours.append(time.perf_counter() - begin)
                    counts.append(system.machine.clock.retired - retired)
                    theirs.append(by_engine(data))
        finally:
            system.close()
    speeds = [count / spent for count, spent in zip(counts, ours, strict=True)]
    instructions = TURN * BIG // AT_ONCE
    limits = [instructions / spent for spent in theirs]
    return {
        "name": f"crc32-{kind}",
        "n": rounds,
        "guest_instructions": instructions,
        "file_bytes_per_second": round(BIG / median(ours)),
        "instructions_per_second": round(median(speeds)),
        "wall_us": timing(ours, 1),
        "engine_wall_us": timing(theirs, 1),
        "ratio_to_engine": round(median(mine / limit for mine, limit in zip(speeds, limits, strict=True)), 3),
    }
