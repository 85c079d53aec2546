"""Damage to an image, by seed: bits flipped, ranges filled, fields set to odd numbers, sectors swapped and copied."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.tools.fuzz.seals import seal_for

FIRST_PLACES = 24  # sectors in use that are taken for structures where these are not given
STRUCTURES = 0.9  # of mutations hit a structure
SEALED = 0.75  # of mutants of a file system with checksums have them mended, so that the damage is reached


class Damage:
    """An image that is damaged by seeds, one after the other, and whole again in between."""

    def __init__(self, image: bytes, structures: Iterable[int] = ()) -> None:
        """Find the sectors of the image that hold data: only there has damage an effect.

        `structures` are the sectors that matter most; by default those at the beginning.
        """
        self.sound = image
        self.image = bytearray(image)
        sectors = range(0, len(image), SECTOR_SIZE)
        nothing = bytes(SECTOR_SIZE)
        self.places = [at for at in sectors if image[at : at + SECTOR_SIZE] != nothing] or [0]
        used = set(self.places)
        self.best = [at for at in (sector * SECTOR_SIZE for sector in structures) if at in used]
        self.best = self.best or self.places[:FIRST_PLACES]
        self.undo: list[tuple[int, bytes]] = []
        self.seal = seal_for(image)
        if self.seal is not None:
            self.best = self.seal.structures(self.places)[:FIRST_PLACES]

    def apply(self, seed: int) -> bytearray:
        """Damage the image as `seed` says, by one to eight mutations."""
        source = random.Random(seed)  # noqa: S311 - the same damage for the same seed is the point
        for _ in range(source.randint(1, 8)):
            source.choice(MUTATIONS)(self, source)
        if self.seal is not None and source.random() < SEALED:
            for at, data in self.seal.mended(self.image):
                self.write(at, data)
        return self.image

    def heal(self) -> None:
        """Undo the damage."""
        while self.undo:
            at, data = self.undo.pop()
            self.image[at : at + len(data)] = data

    def touched(self) -> frozenset[int]:
        """Return the sectors that differ."""
        written = {
            sector
            for at, data in self.undo
            for sector in range(at // SECTOR_SIZE, (at + len(data) - 1) // SECTOR_SIZE + 1)
        }
        return frozenset(sector for sector in written if self._differs(sector * SECTOR_SIZE))

    def _differs(self, at: int) -> bool:
        return self.image[at : at + SECTOR_SIZE] != self.sound[at : at + SECTOR_SIZE]

    def place(self, source: random.Random, size: int) -> int:
        """Return where `size` bytes shall be damaged: mostly in the structures, now and then in any sector in use."""
        sector = source.choice(self.best if source.random() < STRUCTURES else self.places)
        return min(sector + source.randrange(SECTOR_SIZE), len(self.image) - size)

    def write(self, at: int, data: bytes) -> None:
        """Write, and remember the old bytes."""
        self.undo.append((at, bytes(self.image[at : at + len(data)])))
        self.image[at : at + len(data)] = data


def _flip(damage: Damage, source: random.Random) -> None:
    for _ in range(source.randint(1, 4)):
        at = damage.place(source, 1)
        damage.write(at, bytes([damage.image[at] ^ 1 << source.randrange(8)]))


def _fill(damage: Damage, source: random.Random) -> None:
    size = source.choice([1, 2, 4, 16, 512])
    damage.write(damage.place(source, size), bytes([source.choice([0, 0, 0xFF, 1, 0x80])]) * size)


def _number(damage: Damage, source: random.Random) -> None:
    """Set a little-endian field to a boundary value."""
    size = source.choice([1, 2, 4, 8])
    value = source.choice([0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, (1 << 63) - 1])
    damage.write(damage.place(source, size) & -2, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))


def _swap(damage: Damage, source: random.Random) -> None:
    first, second = (damage.place(source, SECTOR_SIZE) & -SECTOR_SIZE for _ in range(2))
    one, other = (bytes(damage.image[at : at + SECTOR_SIZE]) for at in (first, second))
    damage.write(first, other)
    damage.write(second, one)


def _splice(damage: Damage, source: random.Random) -> None:
    size = source.choice([4, 32, 64, 512])
    begin, end = damage.place(source, size), damage.place(source, size)
    damage.write(end, bytes(damage.image[begin : begin + size]))


Mutation = Callable[[Damage, random.Random], None]
MUTATIONS: list[Mutation] = [_flip, _flip, _fill, _number, _number, _swap, _splice]
