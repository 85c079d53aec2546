"""The file allocation table (4) and chains that need none (6.3.4.2)."""

import sys
from array import array
from typing import Final

from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.kernel.common.recent import Recent
from callgate.server.disk import SectorReader
from callgate.server.exfat.boot_region import ExfatLayout
from callgate.server.exfat.structures import BAD, END_OF_CHAIN
from callgate.server.formats.clusters import ClusterChain, Link, Step

WINDOW: Final = 1024  # entries read at a time: 4 KiB
WINDOWS_KEPT: Final = 16


class ExfatTable:
    """The active FAT of a volume."""

    def __init__(self, reader: SectorReader, layout: ExfatLayout) -> None:
        self.reader = reader
        self.layout = layout
        self._windows: Recent[array[int]] = Recent(WINDOWS_KEPT)

    def classify(self, value: int) -> Link:
        """Return the meaning of a FAT entry (4.1)."""
        if self.layout.is_cluster(value):
            return Link.NEXT
        if value == END_OF_CHAIN:
            return Link.END
        return Link.BAD if value == BAD else Link.FREE if value == 0 else Link.INVALID

    async def step(self, cluster: int) -> Step:
        """Follow the chain from ``cluster`` as far as its clusters are consecutive, or to the end of a window."""
        window = await self._window(cluster // WINDOW)
        length = 1
        value = window[cluster % WINDOW]
        while value == cluster + length and value % WINDOW and value <= self.layout.last_cluster:
            length += 1
            value = window[value % WINDOW]
        return Step(length, self.classify(value), value)

    async def _window(self, number: int) -> "array[int]":
        window = self._windows.get(number)
        if window is None:
            entries = min(WINDOW, self.layout.last_cluster + 1 - number * WINDOW)
            sector = self.layout.fat_start + number * WINDOW * 4 // SECTOR_SIZE
            window = array("I", await self.reader.read(sector, -(-entries * 4 // SECTOR_SIZE)))
            if sys.byteorder == "big":
                window.byteswap()
            self._windows.keep(number, window)
        return window


class Consecutive(ClusterChain):
    """The clusters of a file with NoFatChain: one after the other, as many as its length takes."""

    def __init__(self, layout: ExfatLayout, first: int, clusters: int) -> None:
        super().__init__(0)
        if not clusters:
            return
        if not layout.is_cluster(first):
            self.damage = f"its first cluster is {first}, and the volume has 2 to {layout.last_cluster}"
            return
        there = min(clusters, layout.last_cluster + 1 - first)
        if there < clusters:
            self.damage = f"its {clusters} clusters from {first} pass the last one, {layout.last_cluster}"
        self._ordinals.append(0)
        self._clusters.append(first)
        self.length = there
