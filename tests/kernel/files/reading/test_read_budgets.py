"""The costs of reading, in exact counts: the figures of `callgate bench read`.

A count that has changed is a change of the cost: write the new one here if it is intended.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from callgate.kernel.file_data.fetching import SPAN_BYTES, Fetching
from callgate.kernel.file_data.spans import Span
from callgate.tools.bench import reading as bench_read

MIB = 1 << 20


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return bench_read.make_images(tmp_path_factory.mktemp("bench"))


class Sequential(NamedTuple):
    """The figures of 30 MiB read once, on a disk that takes time, and the positions that the reader waited for."""

    result: dict[str, Any]
    waited: list[int]


@pytest.fixture(scope="module")
def sequential(images: tuple[Path, Path]) -> Sequential:
    waited: list[int] = []
    until_settled = Fetching._until_settled

    async def note(self: Fetching, span: Span) -> None:
        waited.append(span.position)
        await until_settled(self, span)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fetching, "_until_settled", note)
        return Sequential(bench_read.read_sequential(images[0]), waited)


def test_a_30_mib_file_takes_16_requests_and_waits_for_the_first_two(sequential: Sequential) -> None:
    result, waited = sequential
    assert result["requests"] == 16
    assert result["blocking_waits"] == 2
    assert waited == [0, SPAN_BYTES]
    assert result["system_calls"] == 2, "one for each wait"
    assert result["exceptions"] == {"#PF": 7}, "up to five spans are mapped by one"
    assert result["read_ahead"] == 15
    assert result["wasted"] == 0
    assert result["dma_bytes"]["read"] == 30 * MIB


def test_a_30_mib_file_takes_a_disk_command_and_10_host_calls_a_request(sequential: Sequential) -> None:
    """A command brings all that a reply names, 480 blocks side by side; the list of one in order is not sorted."""
    result = sequential.result
    data = {"replied": 16, "disk_done": 16, "file_ready": 16, "exception": 7, "system.map_file": 2, "resume": 17}
    threads = {"tick": 16, "schedule": 9, "yield": 9, "wake": 7, "first_use": 4}
    server = {"server.hosted_step": 22, "server.lock_blocks": 3, "server.unlock_blocks": 3}
    assert result["host_calls"] == data | threads | server
    assert result["interrupts"]["irq 0x2b"] == 16
    assert result["pte_writes"] < 7680 + 100


def test_kernel_and_server_touch_no_byte_of_an_aligned_file(sequential: Sequential) -> None:
    """Counted at the cache's physical addresses, and at every copy that policy makes."""
    assert sequential.result["cpu_file_bytes"] == {"kernel": 0, "server": 0, "client": 30 * MIB}


def test_a_read_inside_a_mapped_area_makes_no_system_call_and_few_instructions(images: tuple[Path, Path]) -> None:
    result = bench_read.read_random(images[0])
    assert result["n"] >= 1000
    assert result["system_calls"] == 0
    assert result["exceptions"] == {}
    assert result["areas"] == 1
    assert result["instructions_each"]["max"] == 21
    pieces = result["in_pieces"]
    assert pieces["n"] >= 1000
    assert pieces["system_calls"] == 0
    assert pieces["areas"] == 180
    assert pieces["instructions_each"]["max"] == 56


def test_a_directory_of_1000_files_is_listed_again_without_a_request(images: tuple[Path, Path]) -> None:
    result = bench_read.list_directory(images[1], 2)
    assert result["wall_us"]["rounds"] == 2
    assert result["requests"] == 0
    assert result["server_gates"] == 0
    assert result["cr3_loads"] == 0
    assert result["client_gates"] == 2, "lock and unlock"


def test_sorting_sorted_sectors_is_linear() -> None:
    """7 instructions an entry, and 9 around them."""
    result = bench_read.sort_sorted(3)
    assert result["entries"] == 506
    assert result["guest_instructions"]["total"] == 7 * 506 + 9


@pytest.mark.thorough(only=True)
def test_eight_readers_of_one_file_cost_one_read_of_the_disk(images: tuple[Path, Path]) -> None:
    result = bench_read.read_shared(images[0])
    assert result["dma_bytes"]["read"] == result["file_bytes"] == 16 * MIB


@pytest.mark.thorough(only=True)
def test_summing_a_cached_file_is_the_work_of_summing_memory(images: tuple[Path, Path]) -> None:
    """The same instructions, and those of `file_peek` for all of it and at its end: nothing else happens."""
    memory, cached, uncached, evicted, *least = bench_read.sums(images[0], 1)
    assert [result["name"] for result in (memory, cached, uncached, evicted, *least)] == [
        *("sum-memory", "sum-peek-cached", "sum-peek-uncached", "sum-peek-evicted"),
        *("sum-peek-uncached-least", "sum-peek-evicted-least"),
    ]
    for result in least:
        assert (result["exceptions"], result["requests"], {*result["host_calls"]} - {"tick"}) == ({}, 0, set())
        assert result["guest_instructions"]["ring3"] == cached["guest_instructions"]["ring3"]
        assert 7680 <= result["pte_writes"] <= 7680 + 40
    assert memory["guest_instructions"]["total"] == 4 * 30 * MIB // 4 + 10
    assert cached["guest_instructions"]["total"] - memory["guest_instructions"]["total"] == 50
    assert cached["guest_instructions"]["ring0"] == 0
    assert cached["dma_bytes"]["read"] == 0
    assert uncached["dma_bytes"]["read"] == evicted["dma_bytes"]["read"] == 30 * MIB
    assert uncached["host_calls"]["disk_done"] == 16
    assert uncached["requests"] == 16
    assert {"ratio_to_memory"} <= set(cached) & set(uncached)
