"""Systems under a debugger."""

from collections.abc import Callable, Iterator

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import open_image
from callgate.kernel.system import System, SystemOptions


def booting() -> Iterator[Callable[[str], System]]:
    """Boot the demo image with commands for the shell; nothing has run yet.  The systems are closed at the end.

    Without the fast path each request is posted, and each thread goes on where it waits.
    """
    systems: list[System] = []

    def boot(commands: str | None = "dir", *, fast_path: bool = True, ide: bool = False) -> System:
        options = SystemOptions(commands=commands, fast_path=fast_path, ide=ide)
        system = System([open_image(demo_image(cache_directory()))], options)
        systems.append(system)
        return system

    yield boot
    for system in systems:
        system.close()


boot_demo = pytest.fixture(booting)  # for a test
boot_for_all = pytest.fixture(booting, scope="module")  # for the tests of a file, which go back to where they began
