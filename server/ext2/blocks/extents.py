"""Block maps of ext4: a tree of extents (ext4 documentation, "Extent Tree")."""

import struct
from itertools import pairwise
from typing import Final, NamedTuple

from callgate.server.ext2.blocks.runs import HOLE, Runs
from callgate.server.ext2.structures import EXTENT_DEPTH_LIMIT, EXTENT_HEADER, EXTENT_INITIALISED, EXTENT_MAGIC

_HEADER: Final = struct.Struct("<HHHH")
_LEAF: Final = struct.Struct("<IHHI")
_INDEX: Final = struct.Struct("<IIHH")
FILE_BLOCKS: Final = 1 << 32  # ee_block has 32 bits


class Entry(NamedTuple):
    """An entry of a node: from block ``start`` of the file.  Of an index, ``block`` is the node below."""

    start: int
    length: int  # 0 in indexes
    block: int
    written: bool = True  # or else it reads as zeros


async def follow_extents(runs: Runs) -> None:
    """Add the runs from `runs.at` to `runs.end`; FileSystemError where the tree is damaged."""
    limit = min(runs.end, FILE_BLOCKS)
    depth = _HEADER.unpack_from(runs.inode.pointers)[3]
    if depth > EXTENT_DEPTH_LIMIT:
        raise runs.corrupt(f"extent tree of depth {depth}; at most {EXTENT_DEPTH_LIMIT} can be")
    await _node(runs, runs.inode.pointers, "extents in i_block", depth, range(limit))
    if runs.at < runs.end:
        raise runs.corrupt(f"block {runs.at} of the file is beyond what extents reach, {FILE_BLOCKS} blocks")


async def _node(runs: Runs, data: bytes, place: str, depth: int, span: range) -> None:
    """Add what a node maps of its ``span`` of the file; the depth is one less each time, so it ends."""
    entries = read_node(runs, data, place, depth)
    if entries and entries[0].start < span.start:
        raise runs.corrupt(f"{place}: it begins at block {entries[0].start}, expected at least {span.start}")
    for index, entry in enumerate(entries):
        end = min(entries[index + 1].start if index + 1 < len(entries) else span.stop, span.stop)
        if end <= runs.at:
            continue
        if entry.start > runs.at:
            runs.add(HOLE, min(entry.start, span.stop) - runs.at)
        if runs.at >= end:
            break
        if depth:
            await _child(runs, entry, place, depth, range(entry.start, end))
        elif runs.at < entry.start + entry.length:
            _add_extent(runs, entry, place, end)
    if runs.at < span.stop:
        runs.add(HOLE, span.stop - runs.at)


async def _child(runs: Runs, entry: Entry, place: str, depth: int, span: range) -> None:
    if not runs.blocks.layout.is_block(entry.block):
        raise runs.corrupt(f"{place}: the node for block {entry.start} is block {entry.block}, outside the volume")
    data = await runs.blocks.read(entry.block, f"inode {runs.inode.number}: extent node")
    await _node(runs, data, f"extent node in block {entry.block}", depth - 1, span)


def _add_extent(runs: Runs, entry: Entry, place: str, end: int) -> None:
    skipped = runs.at - entry.start
    length = min(entry.length - skipped, end - runs.at)
    if entry.written and not runs.blocks.layout.is_block(entry.block):
        raise runs.corrupt(f"{place}: block {entry.start} of the file is block {entry.block}, outside the volume")
    runs.add(entry.block + skipped if entry.written else HOLE, length)


def read_node(runs: Runs, data: bytes, place: str, depth: int) -> list[Entry]:
    """Return the entries of a node that must be of ``depth``; CORRUPT if they contradict each other."""
    magic, count, _, found = _HEADER.unpack_from(data)
    if magic != EXTENT_MAGIC:
        raise runs.corrupt(f"{place}: magic number {magic:#06x}, expected {EXTENT_MAGIC:#06x}")
    if found != depth:
        raise runs.corrupt(f"{place}: depth {found}, expected {depth}")
    room = len(data) // EXTENT_HEADER - 1
    if count > room:
        raise runs.corrupt(f"{place}: {count} entries, {room} fit")
    if depth and not count:
        raise runs.corrupt(f"{place}: an index without entries")
    raw = data[EXTENT_HEADER : EXTENT_HEADER * (count + 1)]
    entries = [_index(*item) for item in _INDEX.iter_unpack(raw)] if depth else _leaves(raw)
    _check_order(runs, entries, place, depth)
    return entries


def _index(start: int, low: int, high: int, _unused: int) -> Entry:
    return Entry(start, 0, low | high << 32)


def _leaves(raw: bytes) -> list[Entry]:
    entries = []
    for start, length, high, low in _LEAF.iter_unpack(raw):
        written = length <= EXTENT_INITIALISED
        entries.append(Entry(start, length if written else length - EXTENT_INITIALISED, low | high << 32, written))
    return entries


def _check_order(runs: Runs, entries: list[Entry], place: str, depth: int) -> None:
    for entry in entries:
        if not depth and not entry.length:
            raise runs.corrupt(f"{place}: the extent for block {entry.start} has no blocks")
    for entry, following in pairwise(entries):
        if following.start < entry.start + max(entry.length, 1):
            raise runs.corrupt(f"{place}: the entries for blocks {entry.start} and {following.start} overlap")
