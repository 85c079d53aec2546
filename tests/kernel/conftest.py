"""Booted systems for the kernel's tests, and images made by other people's tools."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from callgate.disk.media import ImageFile, Medium
from callgate.kernel.machine import Stop
from callgate.kernel.system import System, SystemOptions
from ipc_rig import FAST_PATH

FUEL = 200_000_000


@dataclass
class Run:
    """The output of a boot and its end."""

    stop: Stop
    output: bytes
    log: list[str]
    system: System
    find_leaks: Callable[[System], list[str]]

    @property
    def status(self) -> int | None:
        """The shell's exit code."""
        return self.system.exit_code

    def leaks(self) -> list[str]:
        """Return the leaks."""
        return self.find_leaks(self.system)


@dataclass
class Booter:
    """Boots images and keeps the systems until the test is over."""

    find_leaks: Callable[[System], list[str]]
    systems: list[System] = field(default_factory=list)

    def __call__(self, commands: str | None, *media: Medium | Path, fuel: int = FUEL, **options: object) -> Run:
        """Boot with `-c commands` and run to the end; None is a shell that reads the option `source`."""
        output: list[bytes] = []
        log: list[str] = []
        disks = [ImageFile(item) if isinstance(item, Path) else item for item in media]
        settings = {"log": log.append, "output": output.append, "fast_path": FAST_PATH, **options}
        system = System(disks, SystemOptions(commands=commands, **settings))  # type: ignore[arg-type]
        self.systems.append(system)
        stop = system.run(fuel=fuel)
        return Run(stop, b"".join(output), log, system, self.find_leaks)


@pytest.fixture
def boot(find_leaks: Callable[[System], list[str]]) -> Iterator[Booter]:
    booter = Booter(find_leaks)
    yield booter
    for system in booter.systems:
        system.close()


@pytest.fixture
def fat_image(tmp_path: Path, host_tool: Callable[..., str]) -> Callable[..., Path]:
    """Make an image with mkfs.fat and mtools: `fat_image(files, width=16, mebibytes=16)`."""

    def make(files: dict[str, bytes], *options: str, width: int = 16, mebibytes: int = 16, name: str = "a.img") -> Path:
        image = tmp_path / name
        with image.open("wb") as file:
            file.truncate(mebibytes << 20)
        host_tool("mkfs.fat", "-F", width, *options, image)
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            tree = write_tree(Path(folder), files)
            if files:
                host_tool("mcopy", "-s", "-Q", "-i", image, *sorted(tree.iterdir()), "::/")
        return image

    return make


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    """Write files, and the directories of their paths, below a directory of the host."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root
