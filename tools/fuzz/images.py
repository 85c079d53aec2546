"""Damaged images by the thousand: no server may hang, raise, read outside its partition or keep what it was lent.

A seed makes a mutant of a sound image.  Its server is mounted in rehearsal and used as by a careless client; with
`boot`, the whole system is booted on it and must end as usual, holding nothing.  In both cases every file that the
damage does not affect must still be read, byte for byte.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from callgate.disk.media import MemoryMedium
from callgate.kernel.system import System, SystemOptions
from callgate.kernel.watching.leaks import kernel_pages, leaks
from callgate.server.errors import FileSystemError
from callgate.tools.fuzz.damage import Damage
from callgate.tools.fuzz.witness import Witness, content, witnesses
from callgate.tools.inspection.volume_walk import VolumeWalk, claimant

VISITS = 60  # files and directories visited in a mutant
CALLS = 20_000  # gate calls that a mutant may cost
MEMORY = 32 << 20  # bytes that a server may allocate
FUEL = 60_000_000  # instructions of a booted mutant
CHECKED_BYTES = 1 << 20  # of files that a booted system sums up, all together
LINE_BYTES = 1500  # of the command that does it
#: The shell's commands on a booted mutant. They show only a part of a file: a damaged size may be huge.
COMMANDS = (
    "ls /; tree /d0; find *.TXT /d0; hexdump /d0/README.TXT 0 6000; hexdump /d0/docs/note.txt 0 9000; "
    "dir /d0/docs; df; vol; exit 0"
)


@dataclass
class Outcome:
    """The results of a number of mutants."""

    mutants: int = 0
    refused: int = 0
    damaged: int = 0
    sound: int = 0
    findings: int = 0
    witnesses: int = 0  # files that the damage left alone, and that were read unchanged


class Target:
    """A sound image and the facts known of it."""

    def __init__(self, image: bytes, *, booted: bool = False) -> None:
        """Visit the sound image; with `booted`, boot it as well. It must pass the tests of its mutants."""
        self.booted = booted
        medium = MemoryMedium(image)
        found = claimant(medium, 0, medium.sector_count)
        self.witnesses, structures = witnesses(found.server, medium) if found else ([], [])
        self.damage = Damage(image, structures)
        self.unreadable = visit(self.damage.image, self.witnesses)
        self.kernel_pages = boot(self.damage.image, self.witnesses) if booted else 0

    def attempt(self, seed: int, outcome: Outcome) -> str | None:
        """Try one mutant; count it, and return the finding."""
        outcome.mutants += 1
        image = self.damage.apply(seed)
        touched = self.damage.touched()
        untouched = [witness for witness in self.witnesses if witness.sectors.isdisjoint(touched)]
        try:
            if self.booted and boot(image, untouched) > self.kernel_pages:
                raise AssertionError("pages of memory were lost")
            unreadable = visit(image, untouched)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            return f"{type(error).__name__}: {error}"
        finally:
            self.damage.heal()
        outcome.witnesses += len(untouched)
        outcome.refused += unreadable is None
        outcome.damaged += unreadable is not None and unreadable != self.unreadable
        outcome.sound += unreadable is not None and unreadable == self.unreadable
        return None


def fuzz(
    image: bytes, seeds: range, outcome: Outcome, *, booted: bool = False
) -> Iterator[tuple[int | None, str | None]]:
    """Try every seed; yield (seed, finding or None) and count in `outcome`.  (None, finding): the sound image fails."""
    try:
        target = Target(image, booted=booted)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
        outcome.findings += 1
        yield None, f"{type(error).__name__}: {error}"
        return
    for seed in seeds:
        finding = target.attempt(seed, outcome)
        outcome.findings += finding is not None
        yield seed, finding


def visit(image: bytearray, untouched: list[Witness]) -> int | None:
    """Visit all of a mutant; return how much could not be read, None if it was refused.

    AssertionError if a rule is broken.
    """
    medium = MemoryMedium(image, read_only=True)
    found = claimant(medium, 0, medium.sector_count)
    try:
        walk = VolumeWalk(found.server, medium) if found is not None else None
    except FileSystemError as error:
        return _refused(untouched, error.text)
    if walk is None:
        return _refused(untouched, "no server knows it")
    for entry in walk.entries(VISITS):
        opened = None if entry.is_directory else walk.open(entry.path)
        if opened is not None:
            _read(walk, entry.path, *opened)
            walk.close(opened[0])
    unreadable = len(walk.errors)
    for witness in untouched:
        _compare(walk, witness)
    _settle(walk)
    return unreadable


def _refused(untouched: list[Witness], why: str) -> int | None:
    if untouched:
        raise AssertionError(f"refused, although everything that leads to {untouched[0].path} is sound: {why}")
    return None


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


def _compare(walk: VolumeWalk, witness: Witness) -> None:
    """AssertionError unless a file that the damage left alone is read as before."""
    opened = walk.open(witness.path)
    if opened is None:
        raise AssertionError(f"{witness.path}, which is sound, cannot be opened: {walk.errors[-1][1].name}")
    data, _ = content(walk, witness.path, *opened)
    if data != witness.data:
        raise AssertionError(f"{witness.path}, which is sound, is read as something else")
    walk.close(opened[0])


def _settle(walk: VolumeWalk) -> None:
    """AssertionError if the server keeps what it was lent, or used too much."""
    if walk.rehearsal.locks:
        raise AssertionError(f"{len(walk.rehearsal.locks)} locks of disk blocks were not given back")
    if len(walk.rehearsal.calls) > CALLS:
        raise AssertionError(f"{len(walk.rehearsal.calls)} gate calls")
    if walk.rehearsal.allocated() > MEMORY:
        raise AssertionError(f"{walk.rehearsal.allocated()} bytes of memory")


def boot(image: bytearray, untouched: list[Witness]) -> int:
    """Boot a mutant and run the shell's commands; return the number of the kernel's pages at the end.

    AssertionError if the system does not end, holds something, or finds a sound file changed.
    """
    command, sums = _sums(untouched)
    output: list[bytes] = []
    options = SystemOptions(commands=command + COMMANDS, output=output.append, high_memory=64 << 20)
    system = System([MemoryMedium(image, read_only=True)], options)
    try:
        stop = system.run(fuel=FUEL)
        if stop.reason != "exit":
            raise AssertionError(f"the system ended by {stop}")
        held = leaks(system.kernel)
        if held:
            raise AssertionError(f"still held: {'; '.join(held)}")
        if not b"".join(output).startswith(sums):
            raise AssertionError(f"sound files are read as something else: {b''.join(output)[: len(sums)]!r}")
        return kernel_pages(system.kernel)
    finally:
        system.close()


def _sums(untouched: list[Witness]) -> tuple[str, bytes]:
    """Return a command that computes sums of sound files, and its output."""
    line, lines, size = "", "", 0
    for witness in untouched:
        path = f"/d0/{witness.path}"
        longer = f'{line} "{path}"'
        size += len(witness.data)
        if '"' in path or size > CHECKED_BYTES or len(longer.encode()) > LINE_BYTES:
            break
        line = longer
        lines += f"{zlib.crc32(witness.data):08x}  {path}\n"
    return f"crc32{line}; " if line else "", lines.encode()
