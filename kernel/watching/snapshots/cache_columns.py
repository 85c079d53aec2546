"""How snapshots keep the blocks of the disk cache: as columns, for there are thousands, and most are alike."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final, NamedTuple

from callgate.kernel.storage.cache_records import Block
from callgate.kernel.storage.disk_requests import Key, Run

REST: Final = ("locks", "changed", "family", "writers", "doomed", "waiters")  # mostly those of a new block
OTHERS = attrgetter(*REST)


class Columns(NamedTuple):
    """Blocks with their keys, in order."""

    keys: tuple[Key, ...]
    frames: array[int]
    runs: list[Run | None]
    others: dict[int, tuple[Any, ...]]  # the fields of REST, by place, of blocks with one that is not as in a new one


def columns_of(blocks: dict[Key, Block]) -> Columns:
    """Return blocks as columns."""
    values = [*blocks.values()]
    others: dict[int, tuple[Any, ...]] = {}
    last: tuple[Any, ...] = ()
    for place, block in enumerate(values):
        if block.locks or block.changed or block.family or block.writers or block.doomed or block.waiters:
            rest = OTHERS(block)
            last = others[place] = last if rest == last else rest  # those side by side are mostly alike
    frames = array("q", [block.frame for block in values])
    return Columns(tuple(blocks), frames, [block.run for block in values], others)


def blocks_of(columns: Columns) -> dict[Key, Block]:
    """Return the blocks that `columns_of` was given."""
    made = [Block(frame, run=run) for frame, run in zip(columns.frames, columns.runs, strict=True)]
    for place, fields in columns.others.items():
        for name, value in zip(REST, fields, strict=True):
            setattr(made[place], name, value)
    return dict(zip(columns.keys, made, strict=True))


def runs_of(columns: Columns) -> Iterable[Run]:
    """Return the runs of blocks; those that lie side by side mostly have the same."""
    runs = columns.runs
    return [run for run, before in zip(runs, [None, *runs], strict=False) if run is not before and run is not None]


def size_of_columns(columns: Columns) -> int:
    """Return about how many bytes they take."""
    return len(columns.keys) * 3 * 8 + len(columns.others) * 48
