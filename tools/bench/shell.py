"""What a user waits for at the shell: `callgate bench shell`.

Each command runs on a system of its own, from the first instruction to its end, on images that are made for the run.
Times are CPU time of this process, counts those of the whole run; of many small files those of a run that only lists
them are left out.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Final

from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageFile
from callgate.kernel.machine.observation.ledger import Counts
from callgate.kernel.system import System, SystemOptions
from callgate.tools.bench.measuring import BenchmarkError, element, timing
from callgate.tools.bench.reading import pattern

BIG: Final = 30 << 20
DUMPED: Final = 3 << 20
FILES: Final = 1000
FUEL: Final = 20_000_000_000


def make_images(folder: Path) -> tuple[Path, Path]:
    """Make the image with two big files, and the one with many small ones."""
    big, many = folder / "big", folder / "many"
    big.mkdir()
    many.mkdir()
    data = pattern(BIG)
    (big / "BIG.BIN").write_bytes(data)
    (big / "DUMP.BIN").write_bytes(data[:DUMPED])
    for index in range(FILES):
        (many / f"{index:04}.TXT").write_bytes(b"x" * index)
    images = folder / "big.img", folder / "many.img"
    create_image(images[0], big, fs="fat16", size=96 << 20)
    create_image(images[1], many, fs="fat16", size=32 << 20)
    return images


def run(image: Path, commands: str, output: int) -> tuple[float, Counts]:
    """Boot, run commands that write a number of bytes; return CPU seconds and costs.  BenchmarkError if they differ."""
    printed = 0

    def count(data: bytes) -> None:
        nonlocal printed
        printed += len(data)

    system = System([ImageFile(image)], SystemOptions(commands=commands, output=count))
    try:
        start = time.process_time()
        system.run(fuel=FUEL)
        spent = time.process_time() - start
        if (system.exit_code, printed) != (0, output):
            raise BenchmarkError(f"{commands!r} ended with {system.exit_code} after {printed} bytes, not {output}")
        return spent, system.machine.ledger.counts()
    finally:
        system.close()


def measure(name: str, image: Path, commands: str, output: int, rounds: int) -> dict[str, Any]:
    """Return the element of one command."""
    samples = [run(image, commands, output) for _ in range(rounds)]
    return element(name, 1, samples[0][1].as_dict(), timing([spent for spent, _ in samples], 1))


def small_files(image: Path, rounds: int) -> dict[str, Any]:
    """Return the element of `cat` of many small files, for each of them."""
    listed = [run(image, "cd /d0; ls", FILES * len("0000.TXT\n")) for _ in range(rounds)]
    shown = [run(image, "cd /d0; cat *.TXT", sum(range(FILES))) for _ in range(rounds)]
    times = [cat[0] - echo[0] for cat, echo in zip(shown, listed, strict=True)]
    counts = (shown[0][1] - listed[0][1]).as_dict()
    return element("cat-1000-files", FILES, counts, timing(times, FILES))


def bench_shell(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench shell`."""
    with tempfile.TemporaryDirectory() as name:
        big, many = make_images(Path(name))
        sum_of = measure("crc32-30m", big, "crc32 /d0/BIG.BIN", len("00000000  /d0/BIG.BIN\n"), rounds)
        shown = measure("cat-30m", big, "cat /d0/BIG.BIN", BIG, rounds)
        lines = DUMPED // 16
        dumped = measure("hexdump-3m", big, "hexdump /d0/DUMP.BIN", lines * 79 + 9, rounds)
        shown["ratio_to_crc32"] = round(shown["wall_us"]["median"] / sum_of["wall_us"]["median"], 3)
        return [sum_of, shown, dumped, small_files(many, rounds)]
