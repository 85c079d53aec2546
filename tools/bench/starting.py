"""The start of `callgate boot`, against the import of the three engines that it stands on.

Both are processes of their own, and take turns.  The first boot, which fills the cache, is not timed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

from callgate.tools.bench.measuring import BenchmarkError, timing

ENGINES: Final = ["-c", "import unicorn, keystone, capstone"]
BOOT: Final = ["-c", "from callgate.tools.cli.main import main; main()", "boot", "-q", "-c", "exit"]


def run(arguments: list[str]) -> float:
    """Run Python in a process of its own; return the seconds, BenchmarkError with its messages if it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        cwd=Path.home(),
    )
    spent = time.perf_counter() - start
    if done.returncode:
        raise BenchmarkError(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return spent


def bench_start(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench start`."""
    run(BOOT)
    pairs = [(run(ENGINES), run(BOOT)) for _ in range(rounds)]
    engines, boots = ([pair[index] for pair in pairs] for index in (0, 1))
    return [
        {"name": "import-engines", "n": 1, "wall_us": timing(engines, 1)},
        {
            "name": "start-boot",
            "n": 1,
            "wall_us": timing(boots, 1),
            "ratio_to_import_engines": round(median(boots) / median(engines), 2),
        },
    ]
