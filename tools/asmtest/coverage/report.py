"""Coverage as text, as LCOV's tracefile, and as annotated listings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from callgate.kernel.machine.engine.executed import PASSED, RAN, TAKEN
from callgate.tools.asmtest.coverage.measuring import Key, Result, missing

TESTS: Final = "test_"
FULL: Final = 100.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One instruction of a line: its text, whether it is a conditional jump, its record."""

    text: str
    jump: bool
    flags: int

    @property
    def missing(self) -> list[str]:
        """What no test did, as text."""
        return missing(self.jump, self.flags)


@dataclass
class FileCoverage:
    """One source: its instructions by line."""

    path: Path
    lines: dict[int, list[Seen]] = field(default_factory=dict)

    @cached_property
    def all(self) -> list[Seen]:
        """Every instruction."""
        return [seen for line in sorted(self.lines) for seen in self.lines[line]]

    @property
    def instructions(self) -> tuple[int, int]:
        """How many instructions were executed, of how many."""
        return sum(bool(seen.flags & RAN) for seen in self.all), len(self.all)

    @property
    def directions(self) -> tuple[int, int]:
        """How many directions of conditional jumps were taken, of how many."""
        jumps = [seen for seen in self.all if seen.jump]
        return sum(bool(seen.flags & bit) for seen in jumps for bit in (TAKEN, PASSED)), 2 * len(jumps)

    def gaps(self) -> list[tuple[int, str]]:
        """Return line and text of each gap; runs of lines never executed are one gap each."""
        found: list[tuple[int, str]] = []
        for line in sorted(self.lines):
            for seen in self.lines[line]:
                found += [(line, f"{seen.text}: {text}") for text in seen.missing]
        return found


@dataclass
class Report:
    """All files that are reported."""

    files: list[FileCoverage]
    unloaded: list[Path]  # sources of the folders that were asked for, of which no test loads anything

    @property
    def instructions(self) -> tuple[int, int]:
        """How many instructions were executed, of how many."""
        return _sum(file.instructions for file in self.files)

    @property
    def directions(self) -> tuple[int, int]:
        """How many directions of conditional jumps were taken, of how many."""
        return _sum(file.directions for file in self.files)

    @property
    def least(self) -> float:
        """The smaller one of the two percentages, for a limit."""
        return min(percent(*self.instructions), percent(*self.directions))


def make_report(results: Mapping[Key, Result], folders: Sequence[Path], root: Path) -> Report:
    """Return the files to report: those in `folders`, or else below `root` except the tests' own."""
    files: dict[str, FileCoverage] = {}
    for (name, line, _, _), (text, jump, flags) in sorted(results.items()):
        path = Path(name)
        if not wanted(path, folders, root):
            continue
        shown = path.relative_to(root) if path.is_relative_to(root) else path
        files.setdefault(name, FileCoverage(shown)).lines.setdefault(line, []).append(Seen(text, jump, flags))
    known = {Path(name) for name in files}
    sources = [path for folder in folders for path in (sorted(folder.rglob("*.asm")) if folder.is_dir() else [folder])]
    return Report(list(files.values()), [path for path in sources if path not in known])


def wanted(path: Path, folders: Sequence[Path], root: Path) -> bool:
    """Whether a file is reported."""
    if folders:
        return any(path == folder or path.is_relative_to(folder) for folder in folders)
    return path.is_relative_to(root) and not path.name.startswith(TESTS) and path.is_file()


def percent(part: int, whole: int) -> float:
    """Return a percentage; 100 of nothing."""
    return FULL * part / whole if whole else FULL


def text_lines(report: Report, *, gaps: bool) -> list[str]:
    """Return a table, and with `gaps` below it the gaps by file and line."""
    width = max([len(str(file.path)) for file in report.files] + [len("total")])
    lines = [f"{'file':<{width}}  instructions     %   directions     %"]
    rows = [(str(file.path), file.instructions, file.directions) for file in report.files]
    for name, *pairs in [*rows, ("total", report.instructions, report.directions)]:
        cells = [f"{part:>6}/{whole:<5} {percent(part, whole):5.1f}" for part, whole in pairs]
        lines.append(f"{name:<{width}}  {'  '.join(cells)}")
    lines += [f"{path}: no test loads it" for path in report.unloaded]
    if gaps:
        lines += [f"{file.path}:{line}: {text}" for file in report.files for line, text in file.gaps()]
    return lines


def lcov(report: Report, root: Path) -> str:
    """Return LCOV's tracefile (geninfo(1), "FILES"): lines, and the directions of conditional jumps as branches.

    A line counts as executed once if any of its instructions was; how often is not counted.
    """
    out = ["TN:"]
    for file in report.files:
        out.append(f"SF:{root / file.path}")
        for line, items in sorted(file.lines.items()):
            for block, seen in enumerate(item for item in items if item.jump):
                for branch, bit in enumerate((TAKEN, PASSED)):
                    count = str(int(bool(seen.flags & bit))) if seen.flags & RAN else "-"
                    out.append(f"BRDA:{line},{block},{branch},{count}")
        hit, found = file.directions
        out += [f"BRF:{found}", f"BRH:{hit}"]
        counts = {line: any(seen.flags & RAN for seen in items) for line, items in sorted(file.lines.items())}
        out += [f"DA:{line},{int(ran)}" for line, ran in counts.items()]
        out += [f"LF:{len(counts)}", f"LH:{sum(counts.values())}", "end_of_record"]
    return "\n".join(out) + "\n"


def annotated(file: FileCoverage, root: Path) -> str:
    """Return a source with a mark before each line: `>` all covered, `!` partly, `-` never executed."""
    out = []
    source = (root / file.path).read_text(encoding="utf-8", errors="replace").split("\n")
    for number, text in enumerate(source[:-1] if source[-1:] == [""] else source, 1):
        items = file.lines.get(number, [])
        gaps = [gap for seen in items for gap in seen.missing]
        if not items:
            mark = " "
        elif not any(seen.flags & RAN for seen in items):
            mark = "-"
        else:
            mark = "!" if gaps else ">"
        words = ", ".join(dict.fromkeys(gaps)) if mark == "!" else ""
        out.append(f"{mark} {text}{'    <-- ' + words if words else ''}".rstrip())
    return "\n".join(out) + "\n"


def write_annotated(report: Report, folder: Path, root: Path) -> int:
    """Write a listing for each file below `folder`; return how many."""
    count = 0
    for file in report.files:
        name = Path(*[part for part in file.path.parts if part not in ("/", "..")])
        target = folder / name.with_name(f"{name.name}.cover")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(annotated(file, root), encoding="utf-8")
        count += 1
    return count


def _sum(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    first, second = 0, 0
    for part, whole in pairs:
        first, second = first + part, second + whole
    return first, second
