"""Images made by dosfstools, mtools and e2fsprogs, and servers rehearsed over them."""

import mmap
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import host_programs
import pytest
from callgate.disk.formatters import exfat
from callgate.disk.formatters.exfat_entries import checksum32, set_checksum
from callgate.disk.formatters.fat import Node, Target
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import HostedServer, ListedFile, read_pages
from callgate.server.exfat.server import ExfatServer
from callgate.server.ext2.server import Ext2Server
from callgate.server.fat.server import FatServer
from callgate.server.iso9660.server import IsoServer
from callgate.server.testing import Answer, Rehearsal
from callgate.server.zip_archive.server import ZipServer

NEEDED = ("mkfs.fat", "mcopy", "mmd", "mdel", "mdir", "fsck.fat", "mattrib")


def _run(*command: str, **environment: str) -> str:
    return host_programs.run(*command, **environment)


@dataclass
class FatImage:
    """A FAT image under construction, and its files."""

    path: Path
    files: dict[str, bytes] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)

    def format(self, kib: int, *options: str) -> "FatImage":
        _run("mkfs.fat", "--invariant", "-C", *options, str(self.path), str(kib))
        return self

    def mkdir(self, name: str) -> None:
        _run("mmd", "-i", str(self.path), f"::{name}")
        self.directories.append(name)

    def put(self, name: str, data: bytes) -> None:
        source = self.path.with_suffix(".source")
        source.write_bytes(data)
        os.utime(source, (1_700_000_000, 1_700_000_000))
        _run("mcopy", "-m", "-o", "-i", str(self.path), str(source), f"::{name}")
        self.files[name] = data

    def put_tree(self, tree: dict[str, bytes]) -> None:
        """Copy many files of one flat directory in one go."""
        folder = self.path.with_suffix(".tree")
        folder.mkdir()
        for name, data in tree.items():
            (folder / name).write_bytes(data)
        _run("mcopy", "-Q", "-i", str(self.path), *map(str, sorted(folder.iterdir())), "::/")
        self.files |= tree
        shutil.rmtree(folder)

    def delete(self, name: str) -> None:
        _run("mdel", "-i", str(self.path), f"::{name}")
        del self.files[name]

    def run(self, *command: str) -> str:
        return _run(*command)

    def read(self) -> bytearray:
        """Return the bytes, to be changed."""
        return bytearray(self.path.read_bytes())

    def view(self) -> memoryview:
        """Return the bytes without reading holes of sparse files."""
        with self.path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def fragment(self, name: str, size: int, seed: int = 1) -> None:
        """Put a file whose chain is scattered: fill holes that deleted files left."""
        piece = 3000
        count = size // piece * 2
        fillers = {f"FILL{i:04}.TMP": b"x" * piece for i in range(count)}
        self.put_tree(fillers)
        _run("mdel", "-i", str(self.path), *(f"::FILL{i:04}.TMP" for i in range(0, count, 2)))
        for i in range(0, count, 2):
            del self.files[f"FILL{i:04}.TMP"]
        self._forget_next_free()
        self.put(name, random.Random(seed).randbytes(size))

    def _forget_next_free(self) -> None:
        """Make mtools look for free clusters from the start: FSI_Nxt_Free = 2."""
        with self.path.open("r+b") as file:
            boot = file.read(512)
            if boot[22:24] == b"\0\0":
                sector = int.from_bytes(boot[11:13], "little") * int.from_bytes(boot[48:50], "little")
                file.seek(sector + 492)
                file.write((2).to_bytes(4, "little"))


@pytest.fixture
def fat_image(tmp_path: Path) -> Callable[..., FatImage]:
    host_programs.find(*NEEDED)
    made = iter(range(1000))

    def make(kib: int, *options: str) -> FatImage:
        return FatImage(tmp_path / f"image{next(made)}.img").format(kib, *options)

    return make


class VolumeClient:
    """A client of a file-system server, request by request."""

    kind: ClassVar[type[HostedServer]]

    def __init__(self, image: bytes | bytearray | memoryview, start: int = 0, sectors: int | None = None) -> None:
        self.rehearsal = Rehearsal(self.kind, image, start=start, sectors=sectors)
        self.rehearsal.start()

    @property
    def server(self) -> Any:
        return self.rehearsal.server

    def request(self, operation: int, path: str | None = None, **registers: int) -> Answer:
        data = None if path is None else path.encode()
        return self.rehearsal.request(operation, data, **registers)

    def read_extract(self, number: int, position: int, wanted: int) -> tuple[int, bytes, Answer]:
        """READ; return the position and the bytes that the reply covers."""
        answer = self.request(Operation.READ, ebx=number, eax=position & 0xFFFFFFFF, edx=position >> 32, ecx=wanted)
        data = b"".join(self.rehearsal.read_sectors(*piece) for piece in answer.sectors)
        size = 0 if answer.error else answer.registers.eax
        return answer.registers.edx << 32 | answer.registers.ecx, data[:size], answer

    def contents(self, path: str, wanted: int = 1 << 20) -> bytes:
        """Read a whole file as `cat` would."""
        opened = self.request(Operation.OPEN, path)
        assert opened.error is ErrorCode.OK, (path, opened)
        number, size = opened.registers.eax, opened.registers.edx << 32 | opened.registers.ecx
        parts: list[bytes] = []
        position = 0
        while position < size:
            start, data, answer = self.read_extract(number, position, wanted)
            assert answer.error is ErrorCode.OK, (path, answer, self.server.take_reports())
            assert start <= position < start + len(data)
            parts.append(data[position - start :])
            position = start + len(data)
        assert self.read_extract(number, size, wanted)[2].registers.eax == 0
        assert self.request(Operation.CLOSE, eax=number).error is ErrorCode.OK
        return b"".join(parts)

    def listing(self, path: str) -> list[ListedFile]:
        """Return the entries of a directory; nothing stays locked."""
        answer = self.request(Operation.LOCK_DIRECTORY, path)
        assert answer.error is ErrorCode.OK, (path, answer)
        files = list(read_pages(answer.memory))
        assert len(files) == answer.registers.edi
        assert self.request(Operation.UNLOCK_DIRECTORY, edx=answer.registers.edx).error is ErrorCode.OK
        return files


class FatClient(VolumeClient):
    kind = FatServer


@pytest.fixture
def client() -> type[FatClient]:
    return FatClient


EXT_TOOLS = ("mke2fs", "debugfs", "dumpe2fs", "e2fsck")
UUID = "12345678-9abc-4def-8123-456789abcdef"


@dataclass
class ExtImage:
    """An ext2, ext3 or ext4 image and the directory of the host that it was made from."""

    path: Path
    folder: Path

    def format(self, size: str, *options: str) -> "ExtImage":
        """Make the image: of `folder`, with nothing in it that differs from run to run but times of change."""
        common = ("-q", "-F", "-U", UUID, "-E", f"hash_seed={UUID}", "-d", str(self.folder))
        _run("mke2fs", *common, *options, str(self.path), size, E2FSPROGS_FAKE_TIME="1700000000")
        return self

    def debugfs(self, request: str) -> str:
        """Have debugfs answer a request."""
        return _run("debugfs", "-R", request, str(self.path))

    def change(self, *requests: str) -> None:
        """Have debugfs change something."""
        script = self.path.with_suffix(".requests")
        script.write_text("".join(f"{request}\n" for request in requests))
        _run("debugfs", "-w", "-f", str(script), str(self.path), E2FSPROGS_FAKE_TIME="1700000000")

    def run(self, *command: str) -> str:
        return _run(*command)

    def files(self) -> dict[str, Path]:
        """Return the regular files, by their paths in the volume."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())
        return {str(path.relative_to(self.folder)): path for path in sorted(found)}

    def read(self) -> bytearray:
        """Return the bytes, to be changed."""
        return bytearray(self.path.read_bytes())

    def view(self) -> memoryview:
        """Return the bytes without reading holes of sparse files."""
        with self.path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


@pytest.fixture
def ext_image(tmp_path: Path) -> Callable[[], ExtImage]:
    """Begin an image: fill its `folder`, then `format` it."""
    host_programs.find(*EXT_TOOLS)
    made = iter(range(1000))

    def make() -> ExtImage:
        number = next(made)
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        return ExtImage(tmp_path / f"ext{number}.img", folder)

    return make


class ExtClient(VolumeClient):
    kind = Ext2Server


@pytest.fixture
def ext_client() -> type[ExtClient]:
    return ExtClient


class IsoClient(VolumeClient):
    kind = IsoServer


@pytest.fixture
def iso_client() -> type[IsoClient]:
    return IsoClient


class ZipClient(VolumeClient):
    kind = ZipServer

    def read_extract(self, number: int, position: int, wanted: int) -> tuple[int, bytes, Answer]:
        """READ, and RELEASE if the reply is memory of the server."""
        start, data, answer = super().read_extract(number, position, wanted)
        if answer.memory:
            data = answer.memory[: answer.registers.eax]
            assert self.request(Operation.RELEASE, eax=answer.registers.edi).error is ErrorCode.OK
        return start, data, answer


@pytest.fixture
def zip_client() -> type[ZipClient]:
    return ZipClient


class ExfatClient(ZipClient):
    """Some of its replies are memory of the server, too."""

    kind = ExfatServer


@pytest.fixture
def exfat_client() -> type[ExfatClient]:
    return ExfatClient


@dataclass
class ExfatImage:
    """An exFAT volume that our formatter wrote, and how to change it by hand."""

    path: Path
    image: bytearray
    geometry: exfat.ExfatGeometry

    def boot(self, offset: int, data: bytes) -> "ExfatImage":
        """Change both boot sectors, and mend their checksums."""
        for region in (0, 12 * 512):
            self.image[region + offset : region + offset + len(data)] = data
            value = checksum32(bytes(self.image[region : region + 11 * 512]), (106, 107, 112))
            self.image[region + 11 * 512 : region + 12 * 512] = value.to_bytes(4, "little") * 128
        return self

    def entry_set(self, name: str) -> int:
        """Return where the set of a file with a name of at most 15 characters begins."""
        return self.image.index(b"\xc1\0" + name.encode("utf-16-le").ljust(30, b"\0")) - 64

    def stream(self, name: str, offset: int, data: bytes) -> "ExfatImage":
        """Change a file's stream extension, and mend the checksum of its set."""
        at = self.entry_set(name)
        self.image[at + 32 + offset : at + 32 + offset + len(data)] = data
        return self.mend(at)

    def mend(self, at: int) -> "ExfatImage":
        """Mend the checksum of the set that begins at an offset."""
        raw = bytes(self.image[at : at + 32 * (1 + self.image[at + 1])])
        self.image[at + 2 : at + 4] = set_checksum(raw).to_bytes(2, "little")
        return self

    def fat(self, cluster: int, value: int) -> "ExfatImage":
        """Change an entry of the FAT."""
        at = exfat.FAT_OFFSET * 512 + 4 * cluster
        self.image[at : at + 4] = value.to_bytes(4, "little")
        return self

    def first_cluster(self, name: str) -> int:
        at = self.entry_set(name) + 32 + 20
        return int.from_bytes(self.image[at : at + 4], "little")

    def save(self) -> Path:
        self.path.write_bytes(self.image)
        return self.path


@pytest.fixture
def exfat_image(tmp_path: Path) -> Callable[..., ExfatImage]:
    """Make a volume: `exfat_image(nodes, scattered=lambda node: True, mebibytes=4)`."""
    made = iter(range(1000))

    def make(nodes: list[Node], *, mebibytes: int = 4, label: str = "TESTS", **options: Any) -> ExfatImage:
        path = tmp_path / f"exfat{next(made)}.img"
        geometry = exfat.plan(mebibytes * 2048)
        with path.open("wb+") as file:
            file.truncate(mebibytes << 20)
            exfat.ExfatWriter(Target(file.fileno(), 0), geometry, label, **options).write(nodes)
        return ExfatImage(path, bytearray(path.read_bytes()), geometry)

    return make
