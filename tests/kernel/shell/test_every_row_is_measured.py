"""Every row of `time` and `--stats` is measured: each has a run in which it is not zero."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.kernel.machine.observation.ledger import SITE_NAMES
from callgate.kernel.programs.images import program_image

ROWS = [
    *("guest instructions", "in ring 0", "in ring 3", "host calls", "CR3 loads", "page-table writes"),
    *("TLB invalidations", "ring changes", "exceptions", "interrupts", "bytes by DMA", "bytes of file data by CPU"),
    *("blocking waits", "requests", "bytes of metadata by policy and hosted servers"),
    *("bytes of programs loaded by policy", "bytes of servers' memory by hosted servers"),
    "bytes decompressed by hosted servers",
]
FILE = bytes(range(256)) * 4096
LARGE = FILE * 5  # more than one request brings: the second is met by a page fault
IDENTIFY = 512  # bytes of IDENTIFY DEVICE, to low memory
COMMANDS = "time crc32 FILE.BIN; time /d0/hello; time crc32 /d1/PACKED.BIN"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("PACKED.BIN", FILE)
    path.write_bytes(path.read_bytes() + bytes(-path.stat().st_size % 512))
    return path


def test_each_row_of_time_is_more_than_zero_for_some_command(
    boot: Any, fat_image: Callable[..., Path], archive: Path
) -> None:
    program = program_image("hello").elf(debug=False)
    run = boot(COMMANDS, fat_image({"FILE.BIN": LARGE, "hello": program}), archive, fast_path=True)
    statistics = run.system.statistics()
    check_time(run.output.decode(), statistics, len(program))
    check_statistics(statistics)


def test_bytes_of_a_disk_without_dma_are_counted_each_time_they_cross_the_bus(
    boot: Any, fat_image: Callable[..., Path]
) -> None:
    """The CPU loads what IDE reads out of a port: it crosses the bus once, and again for the reader of the file."""
    image = fat_image({"FILE.BIN": FILE[: 1 << 16]})
    by_dma, by_cpu = (boot("crc32 FILE.BIN", image, ide=ide).system.statistics() for ide in (False, True))
    assert by_cpu["dma_bytes"]["read"] == 0
    once = sum(by_dma["cpu_file_bytes"].values())
    assert sum(by_cpu["cpu_file_bytes"].values()) == once + by_dma["dma_bytes"]["read"] - IDENTIFY


def check_time(output: str, statistics: dict[str, Any], program: int) -> None:
    """Compare the rows of the three commands with the least that they can be, and with the totals."""
    rows = re.findall(r"^ +(\d+) +([^,\n]+)$", output, re.MULTILINE)
    counts = {name: [int(count) for count, other in rows if other == name] for name in ROWS}
    assert all(any(each) for each in counts.values()), counts
    assert max(counts["bytes of file data by CPU"]) >= len(LARGE)
    assert max(counts["bytes decompressed by hosted servers"]) >= len(FILE)
    assert max(counts["bytes of servers' memory by hosted servers"]) >= len(FILE), "what is decompressed lies there"
    assert max(counts["bytes of programs loaded by policy"]) >= program
    assert sum(counts["bytes decompressed by hosted servers"]) == statistics["inflated_bytes"]
    assert sum(counts["bytes of file data by CPU"]) <= sum(statistics["cpu_file_bytes"].values())


def check_statistics(statistics: dict[str, Any]) -> None:
    """Compare the rows of `--stats` with zero, and those of the servers with each other."""
    # tests/attacks/cpu/test_cpu_fpu.py, tests/kernel/test_ipc_budgets.py: no program of ours uses those registers, and
    # those of the shell have policy make their requests.
    measured_elsewhere = {"fpu_switches", "fast_requests", "fast_replies", "batched_requests"}
    assert all(statistics[name] for name in set(SITE_NAMES) - measured_elsewhere), statistics
    assert statistics["cpu_file_bytes"]["client"] >= len(LARGE) - 4096 * statistics["file_data"]["copied_pages"]
    assert statistics["dma_bytes"]["read"]
    assert statistics["cache"]["hits"]
    assert statistics["cache"]["misses"]
    assert statistics["file_data"]["requests"]
    assert statistics["file_data"]["waits"]
    for name in ("d0", "d1"):
        server = statistics["servers"][name]
        assert all(server[row] for row in ("requests", "replies", "blocking_waits")), (name, server)
    waits = sum(server["blocking_waits"] for server in statistics["servers"].values())
    assert 0 < waits <= statistics["blocking_waits"]
