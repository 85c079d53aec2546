"""Shared by the tests of writing in memory: a disk of synthetic files, and programs that write to them."""

from collections.abc import Callable
from typing import Any

import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium

SECTOR, BLOCK = 512, 4096

Sessions = Callable[..., Any]


SECTORS = 8192


IMAGE = synthetic.disk(SECTORS)


PATTERN = 0xA5


PER_BLOCK = BLOCK // SECTOR


Layout = synthetic.Layout


def write(session: Sessions, mode: str, name: str, *others: tuple[str, str], **options: Any) -> Any:
    """Run the writer on a file to its end."""
    settings = {"scratch": True} | options
    made = session(MemoryMedium(IMAGE), programs=[("writer", f"{mode}/d0/{name}"), *others], **settings)
    made.run()
    return made


def cached(made: Any) -> dict[int, bytes]:
    """Return the content of the disk's cached blocks, by block."""
    ram = made.kernel.machine.ram
    return {key[1]: bytes(ram.view(block.frame, BLOCK)) for key, block in made.kernel.cache.state.blocks.items()}


def straight(pages: int, tail: int = 0, first: int = 64) -> Layout:
    """Return a file in one aligned piece: whole pages, and some bytes more."""
    return Layout(pages * BLOCK + tail, [(first, pages * PER_BLOCK + -(-tail // SECTOR))])
