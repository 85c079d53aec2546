"""Booted systems for the kernel's tests, and images made by other people's tools."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from callgate.disk.media import ImageFile, Medium
from callgate.kernel.machine import Stop
from callgate.kernel.system import System, SystemOptions

FUEL = 200_000_000


@dataclass
class Run:
    """What a boot printed and how it ended."""

    stop: Stop
    output: bytes
    log: list[str]
    system: System

    @property
    def status(self) -> int | None:
        """The shell's exit code."""
        return self.system.exit_code

    def leaks(self) -> list[str]:
        """Return what is still held although nobody should hold it."""
        kernel = self.system.kernel
        found = []
        for partition in kernel.state.partitions.values():
            fields = kernel.ipc.block(partition)
            if (fields["unused"] | fields["free"]) != 0xFFFF_FFFF:
                found.append(f"{partition.name}: slots {~(fields['unused'] | fields['free']) & 0xFFFFFFFF:#x}")
            if partition.pins:
                found.append(f"{partition.name}: pins {partition.pins}")
        locked = [key for key, block in kernel.cache.state.blocks.items() if block.locks]
        if locked:
            found.append(f"cache blocks locked: {locked}")
        if kernel.cache.state.notices:
            found.append("somebody still waits for a disk block")
        if kernel.coroutines.alive:
            found.append("a coroutine is alive")
        return found


@dataclass
class Booter:
    """Boots images and keeps the systems until the test is over."""

    systems: list[System] = field(default_factory=list)

    def __call__(self, commands: str, *media: Medium | Path, fuel: int = FUEL, **options: object) -> Run:
        """Boot with `-c commands` and run to the end."""
        output: list[bytes] = []
        log: list[str] = []
        disks = [ImageFile(item) if isinstance(item, Path) else item for item in media]
        settings = SystemOptions(commands=commands, log=log.append, output=output.append, **options)  # type: ignore[arg-type]
        system = System(disks, settings)
        self.systems.append(system)
        stop = system.run(fuel=fuel)
        return Run(stop, b"".join(output), log, system)


@pytest.fixture
def boot() -> Iterator[Booter]:
    booter = Booter()
    yield booter
    for system in booter.systems:
        system.close()


@pytest.fixture
def fat_image(tmp_path: Path) -> Callable[..., Path]:
    """Make an image with mkfs.fat and mtools: `fat_image(files, width=16, mebibytes=16)`."""
    for tool in ("mkfs.fat", "mcopy", "mmd"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian: dosfstools, mtools)")

    def make(files: dict[str, bytes], *options: str, width: int = 16, mebibytes: int = 16, name: str = "a.img") -> Path:
        image = tmp_path / name
        with image.open("wb") as file:
            file.truncate(mebibytes << 20)
        subprocess.run(["mkfs.fat", "-F", str(width), *options, str(image)], check=True, capture_output=True)
        copy_files(image, files, tmp_path)
        return image

    return make


def copy_files(image: Path | str, files: dict[str, bytes], scratch: Path) -> None:
    """Copy files into an image with mtools."""
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
    made: set[str] = set()
    for path, data in files.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            directory = "/".join(parts[:depth])
            if directory not in made:
                subprocess.run(["mmd", "-i", str(image), f"::/{directory}"], check=True, env=environment)
                made.add(directory)
        source = scratch / "source.bin"
        source.write_bytes(data)
        subprocess.run(["mcopy", "-o", "-i", str(image), str(source), f"::/{path}"], check=True, env=environment)
