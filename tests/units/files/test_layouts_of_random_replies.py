"""Pages that are laid out from random replies, compared byte by byte with the sectors that the replies name."""

import random

from callgate.kernel.abi.memory import HIGH_MEMORY, SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.core.errors import ServerFault
from callgate.kernel.core.records import SectorPiece
from callgate.kernel.file_data.objects import FileObject
from callgate.kernel.file_data.pages import Pieces
from callgate.kernel.file_data.spans import Span
from plain_files import PAGE, FileData

REPLIES = 300


def random_pieces(chance: random.Random) -> Pieces:
    """Return runs of whole blocks, parts of blocks, and holes; no two blocks lie side by side."""
    pieces: Pieces = []
    frame = HIGH_MEMORY
    for _ in range(chance.randrange(1, 7)):
        kind, first = chance.choice(["run", "run", "part", "hole"]), chance.choice([0, chance.randrange(1, 8)])
        count = chance.randrange(1, 6) if kind == "run" else 1
        frames = [frame + 2 * PAGE * index for index in range(count)]
        frame = frames[-1] + 2 * PAGE
        if kind == "run":
            pieces.append((frames, 0, count * SECTORS_PER_PAGE))
        else:
            sectors = SECTORS_PER_PAGE - first if chance.random() < 0.7 else 1
            pieces.append((frames if kind == "part" else [], first, sectors))
    return pieces


def sources(pieces: Pieces) -> list[int]:
    """Return where each sector of a reply lies in memory; 0 for zeros."""
    found: list[int] = []
    for frames, first, sectors in pieces:
        for sector in range(first, first + sectors):
            block, within = divmod(sector, SECTORS_PER_PAGE)
            found.append(frames[block] + within * SECTOR_SIZE if frames else 0)
    return found


def bytes_of_page(parts: int | list[object]) -> dict[int, int]:
    """Return where the bytes of a page at ends of sectors and parts lie, by their offset in the page."""
    if isinstance(parts, int):
        return {offset: parts + offset for edge in range(0, PAGE, SECTOR_SIZE) for offset in (edge, edge + 511)}
    found: dict[int, int] = {}
    for part in parts:
        offsets = {0, part.size - 1, *range(-part.offset % SECTOR_SIZE, part.size, SECTOR_SIZE)}  # type: ignore[attr-defined]
        for offset in offsets:
            place = part.offset + offset  # type: ignore[attr-defined]
            assert place not in found, "parts overlap"
            found[place] = part.source + offset if part.source else 0  # type: ignore[attr-defined]
    return found


def test_every_page_of_a_random_reply_holds_the_bytes_of_its_sectors_and_no_others() -> None:
    data, chance, laid_out = FileData(), random.Random(7), 0
    for _ in range(REPLIES):
        pieces = random_pieces(chance)
        there = sources(pieces)
        start = SECTOR_SIZE * chance.randrange(20)
        covered = len(there) * SECTOR_SIZE - chance.choice([0, 0, 0, 512, 700])
        size = start + covered + chance.choice([-300, 0, 0, PAGE])
        position = start + chance.randrange(max(1, covered))
        shift = chance.choice([None, SECTOR_SIZE * chance.randrange(8)])
        file = FileObject(1, 0, 1, 0, size, 0, 0, opens=1, shift=shift)
        first = file.page_start(file.page_of(position)) if shift is not None else position // PAGE * PAGE
        span = Span(1, max(first, start), chance.randrange(1, 8 * PAGE))
        asked = span.end
        try:
            if not data.pages.begin(file, span, start, covered, [(bool(held), *rest) for held, *rest in pieces]):
                continue
        except ServerFault:
            assert not start <= span.position < start + covered
            continue
        if span.position >= min(span.end, size):
            continue  # the file ends before
        data.pages.lay_out(file, span, start, covered, pieces)
        laid_out += 1
        assert span.end <= min(start + covered, asked, size)
        seen = 0
        for index, parts in enumerate(span.parts):
            begin = (span.first_page + index) * PAGE - (file.shift or 0)
            found = bytes_of_page(parts)
            for offset, source in found.items():
                sector, within = divmod(begin + offset - start, SECTOR_SIZE)
                assert source == (there[sector] + within if there[sector] else 0)
                assert span.position <= begin + offset < span.end
            seen += PAGE if isinstance(parts, int) else sum(part.size for part in parts)
        assert seen == span.length
    assert laid_out > REPLIES // 2


def test_a_run_of_blocks_is_cut_where_the_same_blocks_one_by_one_are() -> None:
    """By what was requested, by what one request may lock, and by the room that the cache has."""
    chance = random.Random(8)
    for _ in range(10):
        data = FileData()
        runs = [(8 * (100 * index + chance.randrange(9)), chance.randrange(1, 30)) for index in range(4)]
        merged: list[SectorPiece] = []
        single: list[SectorPiece] = []
        for lba, count in runs:
            merged.append(SectorPiece(lba, 0, 8 * count))
            single += [SectorPiece(lba + 8 * index, 0, 8) for index in range(count)]
            hole = SectorPiece(None, 0, 8)
            if chance.random() < 0.5:
                merged.append(hole)
                single.append(hole)
        covered = sum(piece.sectors for piece in single) * SECTOR_SIZE
        span = Span(1, 0, chance.randrange(1, covered + PAGE))
        held = data.cache.fitting(0x100, list(range(1 << 16))) - chance.randrange(1, 50)
        if chance.random() < 0.7:
            data.cache.lock(0x100, list(range(5000, 5000 + held)))
        ones, ones_cover = data.answers._fitting(0x100, span, 0, covered, single)
        some, some_cover = data.answers._fitting(0x100, span, 0, covered, merged)
        assert some_cover == ones_cover
        assert [lba + 8 * at if lba is not None else None for lba, _, n in some for at in range(n // 8)] == [
            piece.lba for piece in ones
        ]
