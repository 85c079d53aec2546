"""The embedded demo image: two FAT volumes on an MBR disk, made at first use and kept in the cache."""

import hashlib
import os
import struct
import tempfile
from functools import cache
from pathlib import Path

from callgate.disk.formatters.fat import FatWriter, Node, Target
from callgate.disk.formatters.fat_layout import plan
from callgate.disk.media.medium import ImageError
from callgate.disk.partitioning.mbr import pack_entry, pack_sector

MEGABYTE = 2048  # sectors of 1 MiB
FIRST_START, FIRST_SIZE = MEGABYTE, 24 * MEGABYTE
SECOND_START, SECOND_SIZE = 25 * MEGABYTE, 36 * MEGABYTE
IMAGE_SECTORS = 62 * MEGABYTE
WRITTEN = 1_795_435_200  # 2026-11-23 12:00 UTC, the date of every file
PATTERN_SIZE = 3 << 20
NOTES = 60

README = """\
This is callgate's demo disk: two FAT partitions, served by two processes in ring 3.

Things to try:
  dir                       this directory
  cd docs                   go down; cd .. goes up again
  type docs/ipc.txt         what happens when you list a directory
  df                        free space of every volume
  ls "/d0p1/Long names"     names that are not 8.3
  ls -l /d0p2               the second partition, FAT32
  ipc                       the slots, masks and rings of the servers
  time cat README.TXT       what a command costs, exactly
  /rom/hello world          a program in assembly, started from the ROM volume
"""
IPC = """\
How a directory gets here, step by step:

  take     the shell's kernel side takes one of 32 message slots (bsf, lock btr)
  fill     registers and the path go into the slot's 4 KiB page
  post     the slot's index goes into the ring, the server thread is woken
  map      the page appears in the server's address space
  load     a stub loads the registers, the handler runs as if it had been called
  save     the registers go back into the page
  unmap    the page leaves the server before the kernel believes a byte of it
  convert  the kernel writes physical addresses of the directory's pages
  wake     the shell's thread goes on, and maps those pages read-only

Run `time dir` and count.
"""


@cache
def demo_content() -> tuple[list[Node], list[Node]]:
    """Return the trees of the two partitions."""
    pattern = b"".join(struct.pack("<I", index) for index in range(PATTERN_SIZE // 4))
    notes = [text(f"note{index:02}.txt", f"This is note number {index}.\n") for index in range(NOTES)]
    deep = folder("one", [folder("two", [folder("three", [text("bottom.txt", "You have reached the bottom.\n")])])])
    long_names = folder(
        "Long names",
        [
            text("A file whose name is far too long for 8.3.txt", "Long names are UTF-16 on the disk.\n"),
            text("Füße und Ærø.txt", "Names are shown as UTF-8.\n"),
            text("日本語.txt", "こんにちは\n"),
        ],
    )
    first = [
        text("README.TXT", README),
        folder("docs", [text("ipc.txt", IPC), folder("notes", notes)]),
        deep,
        long_names,
        Node("PATTERN.BIN", WRITTEN, pattern),
        Node("EMPTY.DAT", WRITTEN, b""),
    ]
    second = [
        text("SECOND.TXT", "The second partition has a server of its own.\n"),
        folder("empty directory", []),
    ]
    return first, second


def text(name: str, content: str) -> Node:
    """Return a text file."""
    return Node(name, WRITTEN, content.encode())


def folder(name: str, children: list[Node]) -> Node:
    """Return a directory."""
    return Node(name, WRITTEN, None, children)


def build_demo(path: Path) -> None:
    """Write the image; no file is left if that fails."""
    first, second = demo_content()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        temporary = Path(file.name)
        try:
            fd = file.fileno()
            os.ftruncate(fd, IMAGE_SECTORS * 512)
            os.pwrite(fd, boot_record(), 0)
            geometry = plan(16, FIRST_SIZE, FIRST_START)
            FatWriter(Target(fd, FIRST_START), geometry, "DEMO", 0x1001_2026).write(first)
            geometry = plan(32, SECOND_SIZE, SECOND_START)
            FatWriter(Target(fd, SECOND_START), geometry, "SECOND", 0x1002_2026).write(second)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def boot_record() -> bytes:
    """Return a master boot record with the two partitions."""
    first = pack_entry(0x0E, FIRST_START, FIRST_SIZE, active=True)
    return pack_sector(first + pack_entry(0x0C, SECOND_START, SECOND_SIZE))


def demo_image(directory: Path) -> Path:
    """Return the path of the demo image in `directory`, making it if it is missing or damaged.

    If the directory cannot be written to, a temporary one of our own serves as well; ImageError if not.
    """
    name = f"demo-{fingerprint()}.img"
    path = directory / name
    if usable(path):
        return path
    try:
        build_demo(path)
    except OSError:
        path = Path(tempfile.gettempdir()) / f"callgate-{os.getuid()}" / name
        if not usable(path):
            try:
                build_demo(path)
            except OSError as error:
                reason = f"the demo image cannot be written: {error.strerror}"
                raise ImageError(path, reason, "set XDG_CACHE_HOME to a directory with 64 MiB") from None
    return path


def fingerprint() -> str:
    """Return a digest of the sources that make the image."""
    state = hashlib.sha256()
    for source in (Path(__file__), *sorted((Path(__file__).parents[1] / "formatters").glob("*.py"))):
        state.update(source.read_bytes())
    return state.hexdigest()[:16]


def usable(path: Path) -> bool:
    """Whether the image at `path` has the right size and boot record."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size == IMAGE_SECTORS * 512 and file.read(512) == boot_record()
    except OSError:
        return False
