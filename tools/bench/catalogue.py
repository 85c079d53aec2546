"""The benchmarks of `callgate bench`, and their figures as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def bench_clock(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench clock`."""
    from callgate.tools.bench.checksum import bench_checksum
    from callgate.tools.bench.clock import bench_clock as measure
    from callgate.tools.bench.observing import CHECKSUM, LOOPS, bench_observing
    from callgate.tools.bench.sorting import bench_sorting

    kinds = ("native", "blocks")
    clocks = [bench(kind, rounds) for bench in (measure, bench_checksum, bench_sorting) for kind in kinds]
    return clocks + [bench_observing(name, rounds) for name in (*LOOPS, CHECKSUM)]


def bench_tests(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench tests`."""
    from callgate.tools.bench.plugin_speed import bench_tests as measure

    return measure(rounds)


def bench_read(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench read`."""
    from callgate.tools.bench.reading import bench_read as measure

    return measure(rounds)


def bench_start(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench start`."""
    from callgate.tools.bench.starting import bench_start as measure

    return measure(rounds)


def bench_debug(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench debug`."""
    from callgate.tools.bench.debugging import bench_debug as measure
    from callgate.tools.bench.going_back import bench_back

    return [*measure(rounds), *bench_back(rounds)]


def bench_shell(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench shell`."""
    from callgate.tools.bench.shell import bench_shell as measure

    return measure(rounds)


def bench_ipc(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench ipc`."""
    from callgate.tools.bench.ipc import bench_ipc as measure

    return measure(rounds)


BENCHMARKS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "ipc": bench_ipc,
    "read": bench_read,
    "clock": bench_clock,
    "tests": bench_tests,
    "debug": bench_debug,
    "start": bench_start,
    "shell": bench_shell,
}
COLUMNS = {
    "CR3": "cr3_loads",
    "PTE": "pte_writes",
    "INVLPG": "tlb_invalidations",
    "server gates": "server_gates",
}


def count_cells(result: dict[str, Any]) -> list[str]:
    """Return the counts of one row, blank for a benchmark that has none."""
    instructions = result.get("guest_instructions", "")
    if not isinstance(instructions, dict):
        return [str(instructions), *[""] * (3 + len(COLUMNS))]
    calls = round(sum(result["host_calls"].values()), 3)
    row = [instructions["total"], instructions["ring0"], instructions["ring3"], calls]
    return [str(cell) for cell in (*row, *(result[key] for key in COLUMNS.values()))]


def file_costs(result: dict[str, Any]) -> str:
    """Return the figures of a benchmark of file data other than instructions."""
    touched = ", ".join(f"{kind} {count}" for kind, count in result["cpu_file_bytes"].items())
    parts = [
        f"requests {result['requests']}",
        f"blocking waits {result['blocking_waits']}",
        f"file bytes by CPU: {touched}",
        f"by DMA: {result['dma_bytes']['read']}",
    ]
    if "system_calls" in result:
        parts.append(f"system calls {result['system_calls']}")
    if "instructions_each" in result:
        parts.append("instructions each {mean} (at most {max})".format(**result["instructions_each"]))
    if "in_pieces" in result:
        pieces = result["in_pieces"]
        text = "in {areas} areas {mean} (at most {max})"
        parts.append(text.format(areas=pieces["areas"], **pieces["instructions_each"]))
    return ", ".join(parts)


def render(results: list[dict[str, Any]]) -> str:
    """Return a table for people."""
    head = ["", "instructions", "ring 0", "ring 3", "host calls", *COLUMNS]
    rows = [[*head, "µs median", "min", "max", "ratio"]]
    for result in results:
        taken = result.get("wall_us") or result["cpu_us"]
        times = [f"{taken[key]:.2f}" for key in ("median", "min", "max")]
        ratio = next(
            (f"{value} {key[6:].replace('_', ' ')}" for key, value in result.items() if key[:6] == "ratio_"), ""
        )
        if "bytes_a_second" in result:
            ratio = f"{result['bytes_a_second']:g} bytes a second"
        if "per_second" in result:
            ratio = f"{result['per_second']:,} a second"
            if "ratio_to_empty" in result:
                ratio += f", {result['ratio_to_empty']:.2f} of an empty test's rate"
        rows.append([result["name"], *count_cells(result), *times, ratio])
        calls = ", ".join(f"{name} {count:g}" for name, count in result.get("host_calls", {}).items() if count)
        if calls:
            rows.append([f"  host calls: {calls}"])
        if "checkpoints" in result:
            mebibytes = result["stored_bytes"] / (1 << 20)
            rows.append(
                [f"  {result['retired']:,} instructions, {result['checkpoints']} checkpoints in {mebibytes:.0f} MiB"]
            )
        if "file_bytes" in result or "system_calls" in result:
            rows.append([f"  {file_costs(result)}"])
    table = [row for row in rows if len(row) > 1]
    widths = [max(len(row[column]) for row in table) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows
    )
