"""Figures against those of an earlier run: exact counts apart from times.

A count is the same in every run of the same code, so each that differs is a change of the code.  A time depends on the
host and on what else runs there: it is shown as a ratio, which means something only if both runs were made on one host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from callgate.tools.bench.measuring import BenchmarkError

Results = list[dict[str, Any]]


class Difference(NamedTuple):
    """One figure of a benchmark in two runs; `path` joins the keys of the JSON with points."""

    benchmark: str
    path: str
    before: float
    now: float

    @property
    def ratio(self) -> float | None:
        """The later figure to the earlier one, None if that was 0."""
        return round(self.now / self.before, 3) if self.before else None


class Comparison(NamedTuple):
    """What differs between two runs, and what stands in one of them only."""

    counts: list[Difference]
    times: list[Difference]
    equal: int  # counts that are the same
    gone: list[str]
    new: list[str]


def read_results(path: Path) -> Results:
    """Return what `callgate bench NAME --json` has written to a file; BenchmarkError names the file and its fault."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchmarkError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise BenchmarkError(f"{path} is not JSON: {error}") from None
    if not isinstance(results, list) or not all(isinstance(each, dict) and "name" in each for each in results):
        raise BenchmarkError(f"{path} is not what `callgate bench NAME --json` writes")
    return results


def compare(before: Results, now: Results) -> Comparison:
    """Compare each benchmark with the one of the same name; BenchmarkError if the runs have none in common."""
    earlier = {str(each["name"]): dict(figures(each)) for each in before}
    later = {str(each["name"]): dict(figures(each)) for each in now}
    if earlier.keys().isdisjoint(later):
        raise BenchmarkError(f"the earlier run has none of {', '.join(later)}: it measured {', '.join(earlier)}")
    counts, times, equal = [], [], 0
    for name, measured in later.items():
        known = earlier.get(name, {})
        for path in sorted(known.keys() | measured.keys()) if name in earlier else ():
            difference = Difference(name, path, known.get(path, 0), measured.get(path, 0))
            if is_time(path):
                times.append(difference)
            elif difference.before == difference.now:
                equal += 1
            else:
                counts.append(difference)
    gone = [name for name in earlier if name not in later]
    return Comparison(counts, times, equal, gone, [name for name in later if name not in earlier])


def is_time(path: str) -> bool:
    """Whether a figure depends on the host: microseconds, what is done in a second, or a ratio of such."""
    key = path.partition(".")[0]
    return key.endswith(("_us", "per_second")) or key.startswith("ratio_")


def figures(element: dict[str, Any], inside: str = "") -> Iterator[tuple[str, float]]:
    """Give each number of an element with its path; of a timing only the median."""
    for key, value in element.items():
        path = f"{inside}{key}"
        if path == "n":  # of operations: chosen, not measured
            continue
        if isinstance(value, dict) and is_time(path) and isinstance(value.get("median"), int | float):
            yield f"{path}.median", value["median"]
        elif isinstance(value, dict):
            yield from figures(value, f"{path}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path, value


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison for `--json`."""
    rows = {
        kind: [{**each._asdict(), "ratio": each.ratio} for each in getattr(comparison, kind)]
        for kind in ("counts", "times")
    }
    return {**rows, "equal_counts": comparison.equal, "gone": comparison.gone, "new": comparison.new}


def render(comparison: Comparison) -> str:
    """Return a comparison as tables."""
    changed = len(comparison.counts)
    lines = [f"counts, which are the same on every host: {comparison.equal} as before, {changed} changed"]
    lines += table(comparison.counts)
    lines += ["", "times, which mean something only on one host:", *table(comparison.times)]
    if comparison.gone:
        lines += ["", f"only in the earlier run: {', '.join(comparison.gone)}"]
    if comparison.new:
        lines += ["", f"only in this run: {', '.join(comparison.new)}"]
    return "\n".join(lines)


def table(differences: list[Difference]) -> list[str]:
    """Return lines of one kind of figures, nothing if there are none."""
    if not differences:
        return []
    rows = [("", "before", "now", "now / before")]
    for each in differences:
        ratio = "" if each.ratio is None else f"{each.ratio:.3f}"
        rows.append((f"{each.benchmark} {each.path}", figure(each.before), figure(each.now), ratio))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    left, *right = widths
    return [
        "  ".join((name.ljust(left), *(cell.rjust(width) for cell, width in zip(cells, right, strict=True))))
        for name, *cells in rows
    ]


def figure(value: float) -> str:
    """Return a number with as many digits as tell something."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 10_000 else f"{value:,.3f}"
