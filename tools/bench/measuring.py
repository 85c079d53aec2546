"""Common parts of the benchmarks: elements of the result, times and counts per operation."""

from __future__ import annotations

import statistics
from typing import Any


class BenchmarkError(RuntimeError):
    """A benchmark cannot be run here."""


def timing(samples: list[float], operations: int) -> dict[str, float]:
    """Return median, minimum and maximum in microseconds per operation, and the number of rounds."""
    each = [1e6 * sample / operations for sample in samples]
    return {"median": statistics.median(each), "min": min(each), "max": max(each), "rounds": len(each)}


def element(name: str, operations: int, counts: dict[str, Any], wall: dict[str, float]) -> dict[str, Any]:
    """Return one element of the result: counts per operation."""
    return {"name": name, "n": operations, **per_operation(counts, operations), "wall_us": wall}


def per_operation(value: Any, operations: int) -> Any:
    """Divide every number of a nested structure."""
    if isinstance(value, dict):
        return {key: per_operation(item, operations) for key, item in value.items()}
    quotient = value / operations
    return int(quotient) if quotient == int(quotient) else round(quotient, 3)
