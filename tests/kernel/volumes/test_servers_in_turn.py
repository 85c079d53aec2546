"""A partition whose first server does not mount it: another one may, and else sector 0 may be read in another way."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import silent_servers
from callgate.disk.images.builder import create_image
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.files.paths import listed
from callgate.kernel.servers import volumes
from callgate.server.errors import FileSystemError, MountError
from callgate.server.fat.server import FatServer
from callgate.server.hosted import HostedServer, operation
from callgate.server.message import Data, RegisterValues, Reply, Request
from callgate.server.zip_archive.server import ZipServer
from callgate.tools.inspection import mounting
from callgate.tools.inspection.report import Inspection, inspect_medium

OLD = b"an older file system"
MIB = 1 << 20
INSTEAD = "none of the partitions can be mounted: the fat16 volume that covers the disk is tried"
PARTITIONS_INSTEAD = "the volume that covers the disk cannot be mounted: the partitions are tried"


class ClaimsOnly(HostedServer):
    """Claims volumes with its mark in sector 1, and mounts none."""

    name: ClassVar[str] = "older"

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        return "older" if first.startswith(OLD, 512) else None

    async def start(self) -> None:
        raise MountError("its blocks are gone")


class Raising(ClaimsOnly):
    """Raises when it mounts."""

    async def start(self) -> None:
        raise RuntimeError("oh")


class Declining(ClaimsOnly):
    """Answers the request for the label with an error."""

    async def start(self) -> None:
        pass

    @operation(Operation.VOLUME)
    async def volume(self, request: Request) -> Reply:
        raise FileSystemError(ErrorCode.CORRUPT, "no label")


class Hanging(silent_servers.Late):
    """Never mounts."""

    name: ClassVar[str] = "older"

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        return ClaimsOnly.probe(first)


class ClaimsAndMounts(ClaimsOnly):
    """Mounts."""

    async def start(self) -> None:
        pass

    @operation(Operation.VOLUME)
    async def volume(self, request: Request) -> Reply:
        return Data(b"SOUND", RegisterValues())


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have a server asked before those of FAT and ZIP."""

    def install(server: type[HostedServer]) -> None:
        for module in (volumes, mounting):
            monkeypatch.setattr(module, "installed_servers", lambda: [server, FatServer, ZipServer])

    return install


@pytest.fixture
def fat(tmp_path: Path) -> bytearray:
    """Return a FAT16 volume of 16 MiB with the mark of something older in a sector that FAT leaves alone."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "A.TXT").write_text("text\n")
    create_image(tmp_path / "fat.img", tmp_path / "files", fs="fat16", size=16 * MIB)
    image = bytearray((tmp_path / "fat.img").read_bytes())
    assert int.from_bytes(image[14:16], "little") > 1, "sector 1 is reserved"
    image[512 : 512 + len(OLD)] = OLD
    return image


def with_partition(image: bytearray, start: int, sectors: int) -> bytearray:
    image[446:462] = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", start, sectors)
    image[510:512] = b"\x55\xaa"
    return image


def kinds(found: Inspection) -> list[tuple[int, str]]:
    return [(each.partition.number, each.file_system.kind) for each in found.volumes]


@pytest.mark.parametrize(
    ("server", "ended", "problem"),
    [
        (ClaimsOnly, "/d0: server ended: its blocks are gone", "older: cannot be mounted: its blocks are gone"),
        (Raising, "/d0: server ended: handler raised RuntimeError: oh", "older: its server raised RuntimeError: oh"),
        (Declining, "/d0: server ended: it did not mount: the file system is damaged", "older: cannot be mounted: "),
    ],
)
def test_the_next_server_that_claims_a_volume_mounts_it(
    boot: Any, installed: Callable[..., None], fat: bytearray, server: type[HostedServer], ended: str, problem: str
) -> None:
    installed(server)
    run = boot("cat /d0/A.TXT", MemoryMedium(fat))
    assert (run.status, run.output) == (0, b"text\n")
    log = [line for line in run.log if not line.startswith("  ")]
    assert log[-4].startswith(ended)
    assert log[-3].startswith("d0: not mounted: ")
    assert log[-2:] == ["d0: a server also knows it as fat16, which is tried", "/d0: fat16, label CALLGATE"]
    assert (run.system.kernel.check(), run.leaks()) == ([], [])
    assert [p.name for p in listed(run.system.kernel.state.endpoints)] == ["rom", "d0"]
    (volume,) = inspect_medium(MemoryMedium(fat), "x").volumes
    assert volume.file_system.kind == "fat16"
    (said,) = volume.file_system.problems
    assert said.startswith(problem)


def test_a_server_that_hangs_has_its_deadline_and_the_next_one_its_own(
    boot: Any, installed: Callable[..., None], fat: bytearray
) -> None:
    installed(Hanging)
    run = boot("cat /d0/A.TXT", MemoryMedium(fat), mount_deadline=50_000_000)
    assert run.output == b"text\n"
    assert run.log[1:] == [
        "d0: not mounted: it did not mount within 50 ms of virtual time (--mount-deadline)",
        "d0: a server also knows it as fat16, which is tried",
        "/d0: fat16, label CALLGATE",
    ]
    assert run.system.machine.clock.now < 150_000_000
    assert run.system.kernel.check() == []


def test_a_server_whose_beginning_another_one_claims_knows_the_volume_by_its_end(
    boot: Any, installed: Callable[..., None]
) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("A.TXT", "zipped\n")
    installed(ClaimsOnly)
    run = boot("cat /d0/A.TXT", MemoryMedium(bytes(512) + OLD + archive.getvalue()))
    assert run.output == b"zipped\n"
    assert run.log[-2:] == ["d0: 532 bytes stand before the archive", "/d0: zip, label (none)"]
    assert run.log[-3] == "d0: a server also knows it as zip, which is tried"


@pytest.mark.parametrize("server", [ClaimsOnly, Hanging])
def test_the_volume_that_covers_the_disk_is_used_when_no_partition_can_be_mounted(
    boot: Any, installed: Callable[..., None], fat: bytearray, server: type[HostedServer]
) -> None:
    fat[512 : 512 + len(OLD)] = bytes(len(OLD))
    fat[16000 * 512 + 512 : 16000 * 512 + 512 + len(OLD)] = OLD
    with_partition(fat, 16000, 4096)
    installed(server)
    run = boot("cat /d0/A.TXT; ls /", MemoryMedium(fat), mount_deadline=50_000_000)
    assert run.output.split() == [b"text", b"d0", b"rom"]
    assert run.log[1] == "d0: a whole-disk fat16 volume also begins here, left over from before the disk was divided"
    assert "d0p1: not mounted: " in "".join(run.log)
    assert run.log[-2:] == [f"d0: {INSTEAD}", "/d0: fat16, label CALLGATE"]
    assert (run.system.kernel.check(), run.leaks()) == ([], [])


def test_inspect_finds_the_volume_that_a_boot_finds(installed: Callable[..., None], fat: bytearray) -> None:
    fat[512 : 512 + len(OLD)] = bytes(len(OLD))
    fat[16000 * 512 + 512 : 16000 * 512 + 512 + len(OLD)] = OLD
    with_partition(fat, 16000, 4096)
    installed(ClaimsOnly)
    found = inspect_medium(MemoryMedium(fat), "x")
    assert (found.scheme, kinds(found)) == ("none", [(0, "fat16")])
    assert found.problems[1:] == ["partition 1: cannot be mounted: its blocks are gone", INSTEAD]
    installed(ClaimsAndMounts)
    found = inspect_medium(MemoryMedium(fat), "x")
    assert (found.scheme, kinds(found), len(found.problems)) == ("mbr", [(1, "older")], 1)


def test_partitions_are_used_when_the_volume_that_covers_the_disk_cannot_be_mounted(
    boot: Any, installed: Callable[..., None], tmp_path: Path
) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("A.TXT", "zipped\n")
    disk = bytearray(4096 * 512) + bytes(-len(archive.getvalue()) % 512) + archive.getvalue()
    disk[512 : 512 + len(OLD)] = OLD
    with_partition(disk, 2048, len(disk) // 512 - 2048)
    disk += b"else" * 32768  # so that the archive does not end with the disk
    installed(ClaimsOnly)
    run = boot("cat /d0p1/A.TXT", MemoryMedium(disk))
    assert run.output == b"zipped\n"
    assert (run.log[-3], run.log[-1]) == (f"d0: {PARTITIONS_INSTEAD}", "/d0p1: zip, label (none)")
    found = inspect_medium(MemoryMedium(disk), "x")
    assert (found.scheme, kinds(found)) == ("mbr", [(1, "zip")])


def test_both_failed_ways_of_mounting_a_disk_are_reported(boot: Any, installed: Callable[..., None]) -> None:
    disk = bytearray(4096 * 512)
    disk[512 : 512 + len(OLD)] = OLD
    with_partition(disk, 2048, 2048)
    installed(ClaimsOnly)
    run = boot("ls /", MemoryMedium(disk))
    assert run.log[-2:] == [f"d0: {PARTITIONS_INSTEAD}", "d0p1: no file system that a server knows, skipped"]
    found = inspect_medium(MemoryMedium(disk), "x")
    assert (found.scheme, kinds(found)) == ("none", [(0, "older")])
    assert found.problems[1:] == [PARTITIONS_INSTEAD]
