"""Damaged images by the thousand: no server may hang, raise, read outside its partition or keep what it was lent.

A seed makes a mutant: a sound image with a few bits flipped, ranges zeroed, sectors swapped or copied over others.
Its server is mounted in rehearsal and visited as by a client with no sense of danger; with `boot`, the whole system
is booted on it and must end as usual, holding nothing.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from callgate.disk.builder import FileSystem, create_image
from callgate.disk.formatters import exfat
from callgate.disk.formatters.fat import Target
from callgate.disk.media import MemoryMedium
from callgate.disk.tree import read_host_tree
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.kernel.system import System, SystemOptions
from callgate.server.errors import FileSystemError
from callgate.server.hosted import HostedServer
from callgate.tools.fuzz_seals import seal_for
from callgate.tools.volume_walk import PROBE_BYTES, VolumeWalk, server_for

VISITS = 60  # files and directories looked at in a mutant
CALLS = 20_000  # gate calls that a mutant may cost
MEMORY = 32 << 20  # bytes that a server may allocate
FUEL = 30_000_000  # instructions of a booted mutant
STRUCTURES = 24  # most mutations hit the first so many sectors in use
SEALED = 0.75  # of mutants of a file system with checksums have them mended, so that somebody looks behind them
#: What the shell does on a booted mutant.  It shows only so much of a file: a damaged size may be of any size.
COMMANDS = (
    "ls /; tree /d0; find *.TXT /d0; hexdump /d0/README.TXT 0 6000; hexdump /d0/docs/note.txt 0 9000; "
    "dir /d0/docs; df; vol; exit 0"
)


@dataclass
class Outcome:
    """What came of a number of mutants."""

    refused: int = 0
    damaged: int = 0
    sound: int = 0
    findings: int = 0


def sound_image(fs: FileSystem) -> bytes:
    """Return a small volume with a little of everything."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        (tree / "docs" / "deeper").mkdir(parents=True)
        (tree / "README.TXT").write_bytes(b"fuzz me\n" * 300)
        (tree / "EMPTY.DAT").write_bytes(b"")
        (tree / "A rather long file name.text").write_bytes(bytes(range(256)) * 60)
        (tree / "docs" / "note.txt").write_bytes(b"x" * 5000)
        (tree / "docs" / "deeper" / "LAST.BIN").write_bytes(b"y" * 40_000)
        out = Path(folder) / "out.img"
        if fs == "exfat":
            return scattered_exfat(out, tree)
        create_image(out, tree, fs=fs)
        return out.read_bytes()


def scattered_exfat(out: Path, tree: Path) -> bytes:
    """Return a volume on which some files are chained in the FAT and some are not."""
    nodes, _ = read_host_tree(tree, 0)
    geometry = exfat.plan(2048)
    with out.open("wb+") as file:
        file.truncate(geometry.sectors * SECTOR_SIZE)
        target = Target(file.fileno(), 0)
        exfat.ExfatWriter(target, geometry, "FUZZ", scattered=lambda node: len(node.name) % 2 == 0).write(nodes)
    return out.read_bytes()


class Damage:
    """An image that is damaged by seeds, one after the other, and whole again in between."""

    def __init__(self, image: bytes) -> None:
        """Find out where the image holds anything: that is where damage tells."""
        self.image = bytearray(image)
        sectors = range(0, len(image), SECTOR_SIZE)
        nothing = bytes(SECTOR_SIZE)
        self.places = [at for at in sectors if image[at : at + SECTOR_SIZE] != nothing] or [0]
        self.undo: list[tuple[int, bytes]] = []
        self.seal = seal_for(image)
        if self.seal is not None:
            self.places = self.seal.structures(self.places)

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
        """Take the damage back."""
        while self.undo:
            at, data = self.undo.pop()
            self.image[at : at + len(data)] = data

    def place(self, source: random.Random, size: int) -> int:
        """Return where `size` bytes shall be damaged: mostly among the first sectors in use, the structures."""
        first = self.places[: max(1, STRUCTURES)]
        sector = source.choice(first if source.random() < 0.9 else self.places)
        return min(sector + source.randrange(SECTOR_SIZE), len(self.image) - size)

    def write(self, at: int, data: bytes) -> None:
        """Write, and remember what was there."""
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
    """A little-endian field gets a value at the edge of something."""
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


def visit(server: type[HostedServer], image: bytearray) -> int:
    """Look at a mutant from end to end; return how much could not be read.  AssertionError if a rule is broken."""
    with VolumeWalk(server, image) as walk:
        for found in walk.entries(VISITS):
            opened = None if found.is_directory else walk.open(found.path)
            if opened is not None:
                _read(walk, found.path, *opened)
                walk.close(opened[0])
        if walk.rehearsal.locks:
            raise AssertionError(f"{len(walk.rehearsal.locks)} locks of disk blocks were not given back")
        if len(walk.rehearsal.calls) > CALLS:
            raise AssertionError(f"{len(walk.rehearsal.calls)} gate calls")
        if walk.rehearsal.allocated() > MEMORY:
            raise AssertionError(f"{walk.rehearsal.allocated()} bytes of memory")
        return len(walk.errors)


def _read(walk: VolumeWalk, path: str, number: int, size: int) -> None:
    for position in sorted({0, size // 2, max(0, size - 1)}):
        reply = walk.read(path, number, position)
        if reply is not None:
            _check_pieces(walk, path, reply[2].sectors)


def _check_pieces(walk: VolumeWalk, path: str, pieces: tuple[tuple[int | None, int], ...]) -> None:
    geometry = walk.rehearsal.geometry
    for first, count in pieces:
        if first is not None and first + count > geometry.sectors:
            raise AssertionError(f"{path}: sectors {first} to {first + count - 1} lie outside the volume")


def boot(image: bytearray) -> None:
    """Boot a mutant and let the shell look around; AssertionError if the system does not end, or holds something."""
    system = System([MemoryMedium(image, read_only=True)], SystemOptions(commands=COMMANDS, high_memory=64 << 20))
    try:
        stop = system.run(fuel=FUEL)
        if stop.reason != "exit":
            raise AssertionError(f"the system ended by {stop}")
        kernel = system.kernel
        held = [key for key, block in kernel.cache.state.blocks.items() if block.locks]
        masks = [kernel.ipc.block(partition) for partition in kernel.state.partitions.values()]
        lost = [fields for fields in masks if (fields["unused"] | fields["free"]) != 0xFFFF_FFFF]
        if held or lost or kernel.coroutines.alive or kernel.fills.state.waiting:
            raise AssertionError(f"{len(held)} blocks and the slots of {len(lost)} volumes are still held")
    finally:
        system.close()


def fuzz(image: bytes, seeds: range, outcome: Outcome, *, booted: bool = False) -> Iterator[tuple[int, str | None]]:
    """Try every seed; yield (seed, finding or None) and count in `outcome`."""
    damage = Damage(image)
    for seed in seeds:
        finding = _try(damage.apply(seed), outcome, booted=booted)
        damage.heal()
        outcome.findings += finding is not None
        yield seed, finding


def _try(damaged: bytearray, outcome: Outcome, *, booted: bool) -> str | None:
    """Visit one mutant; return what went wrong."""
    try:
        if booted:
            boot(damaged)
        server = server_for(bytes(damaged[:PROBE_BYTES]))
        if server is None:
            outcome.refused += 1
            return None
        try:
            unreadable = visit(server, damaged)
        except FileSystemError:
            outcome.refused += 1
            return None
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
        return f"{type(error).__name__}: {error}"
    outcome.damaged += unreadable > 0
    outcome.sound += unreadable == 0
    return None
