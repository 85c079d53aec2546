"""Makes the demo image: its files, and the FAT volumes they are in."""

import os
import struct
import tempfile
from functools import cache
from pathlib import Path

from callgate.disk.formatters.fat import FatWriter, Node, Target
from callgate.disk.formatters.fat_layout import plan
from callgate.disk.images.demo_partitions import (
    FIRST_SIZE,
    FIRST_START,
    IMAGE_SECTORS,
    SECOND_SIZE,
    SECOND_START,
    boot_record,
)

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
