"""What reading costs, in counts that do not wobble: the figures of `callgate bench read`."""

from pathlib import Path

import pytest
from callgate.tools import bench_read

MIB = 1 << 20


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return bench_read.make_images(tmp_path_factory.mktemp("bench"))


def test_a_30_mib_file_takes_16_requests_and_two_waits(images: tuple[Path, Path]) -> None:
    result = bench_read.read_sequential(images[0])
    assert result["requests"] == 16
    assert result["blocking_waits"] <= 2
    assert result["wasted"] == 0
    assert result["dma_bytes"]["read"] == 30 * MIB


def test_kernel_and_server_touch_no_byte_of_an_aligned_file(images: tuple[Path, Path]) -> None:
    """Counted by a memory hook on the cache's physical addresses, and by every copy that policy makes."""
    touched = bench_read.read_sequential(images[0])["cpu_file_bytes"]
    assert touched == {"kernel": 0, "server": 0, "client": 30 * MIB}


def test_a_read_inside_a_mapped_area_makes_no_system_call_and_few_instructions(images: tuple[Path, Path]) -> None:
    result = bench_read.read_random(images[0])
    assert result["n"] >= 1000
    assert result["system_calls"] == 0
    assert result["exceptions"] == {}
    assert result["instructions_each"]["max"] <= 60


def test_a_directory_of_1000_files_is_listed_again_without_a_request(images: tuple[Path, Path]) -> None:
    result = bench_read.list_directory(images[1])
    assert result["requests"] == 0
    assert result["server_gates"] == 0
    assert result["cr3_loads"] == 0


def test_sorting_sorted_sectors_is_linear() -> None:
    assert bench_read.sort_sorted(3)["instructions_each"]["mean"] <= 8


def test_eight_readers_of_one_file_cost_one_read_of_the_disk(images: tuple[Path, Path]) -> None:
    result = bench_read.read_shared(images[0])
    assert result["dma_bytes"]["read"] == result["file_bytes"] == 16 * MIB
