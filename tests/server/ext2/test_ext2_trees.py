"""Whole trees: what mke2fs wrote comes back byte for byte through READ's sectors, whatever the features."""

import os
import random
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.abi.directory import FileAttributes, VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import read_pages
from callgate.server.ext2.server import Ext2Server

SIZES = (0, 1, 511, 512, 1023, 1024, 1025, 4095, 4096, 4097, 12_288, 12_289, 70_001, 300_000)
LONG = "n" * 251 + ".txt"
MODIFIED = 1_600_000_000

VOLUMES = {
    "ext2 of revision 0": "-t ext2 -r 0 -b 1024",
    "ext2 of 1 KiB blocks": "-t ext2 -b 1024",
    "ext2 of 2 KiB blocks": "-t ext2 -b 2048",
    "ext2 of 4 KiB blocks and 128-byte inodes without file types": "-t ext2 -b 4096 -I 128 -O ^filetype",
    "ext2 of 8 KiB blocks": "-t ext2 -b 8192",
    "ext2 of 64 KiB blocks": "-t ext2 -b 65536",
    "ext2 with a superblock in every group": "-t ext2 -b 1024 -g 1024 -O ^sparse_super,^resize_inode",
    "ext3": "-t ext3 -b 1024",
    "ext3 of 4 KiB blocks and 512-byte inodes": "-t ext3 -b 4096 -I 512",
    "ext4 of 1 KiB blocks": "-t ext4 -b 1024",
    "ext4 of 2 KiB blocks": "-t ext4 -b 2048",
    "ext4 of 4 KiB blocks": "-t ext4 -b 4096",
    "ext4 of 64 KiB blocks": "-t ext4 -b 65536 -O ^has_journal",
    "ext4 without extents": "-t ext4 -b 1024 -O ^extent,^64bit",
    "ext4 with meta_bg": "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode",
    "ext4 with meta_bg and narrow descriptors": "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode,^64bit -I 128",
    "ext4 with uninit_bg and no flex_bg": "-t ext4 -b 1024 -O ^flex_bg,^64bit,uninit_bg,^metadata_csum",
    "ext4 with bigalloc": "-t ext4 -b 4096 -O bigalloc -C 16384",
    "ext4 with bigalloc and 1 KiB blocks": "-t ext4 -b 1024 -O bigalloc -C 16384",
    "ext4 with sparse_super2": "-t ext4 -b 1024 -O sparse_super2,^resize_inode",
    "ext4 with much else": "-t ext4 -b 1024 -O mmp,quota,project,ea_inode,large_dir,metadata_csum_seed",
}


def populate(folder: Path) -> None:
    generator = random.Random(5)
    for size in SIZES:
        (folder / f"size {size}.bin").write_bytes(generator.randbytes(size))
    deep = folder / "Sub Directory" / "deeper" / "and deeper"
    deep.mkdir(parents=True)
    (deep / "ünïcödé 日本語.text").write_bytes(generator.randbytes(9000))
    (deep / LONG).write_bytes(b"255 bytes of name\n")
    (folder / "many").mkdir()
    for number in range(150):
        (folder / "many" / f"file with number {number}").write_bytes(b"%d\n" % number)
    with (folder / "sparse").open("wb") as file:
        for position in (0, 9000, 400_000, 1_234_567):
            file.seek(position)
            file.write(generator.randbytes(3000))
        file.truncate(2_000_000)
    (folder / "read only").write_bytes(b"nobody writes this\n")
    (folder / "read only").chmod(0o444)
    (folder / "program").write_bytes(b"#!/bin/sh\n")
    (folder / "program").chmod(0o755)
    for path in folder.rglob("*"):
        os.utime(path, (MODIFIED, MODIFIED + len(path.name)))


def make(image: Any, options: str, size: str = "24M") -> Any:
    populate(image.folder)
    return image.format(size, *options.split(), "-L", "A label, 16 long")


@pytest.fixture(params=VOLUMES.values(), ids=VOLUMES.keys())
def populated(request: pytest.FixtureRequest, ext_image: Callable[[], Any]) -> Any:
    return make(ext_image(), request.param)


def debugfs_listing(image: Any, folder: str) -> dict[str, tuple[int, int, int]]:
    """Return inode, mode and size of every name, as debugfs has them."""
    lines = re.findall(r"^/(\d+)/(\d+)/\d+/\d+/(.*)/(\d*)/$", image.debugfs(f'ls -p "{folder}"'), re.MULTILINE)
    return {
        name: (int(inode), int(mode, 8), int(size or 0))
        for inode, mode, name, size in lines
        if name not in {".", ".."} and inode != "0"
    }


class TestEveryKindOfVolume:
    @pytest.mark.thorough(one_in=6)
    def test_every_kind_of_ext_volume_shows_every_byte_name_and_free_block(
        self, populated: Any, ext_client: Any
    ) -> None:
        served = ext_client(populated.view())
        for path, source in populated.files().items():
            assert served.contents(path) == source.read_bytes(), path
        for folder in ("", "many", "Sub Directory", "Sub Directory/deeper/and deeper", "lost+found"):
            self.compare_listing(populated, served, folder)
        self.compare_numbers(populated, served)
        assert served.server.take_reports() == []
        assert served.rehearsal.locks == {}

    def compare_listing(self, image: Any, served: Any, folder: str) -> None:
        expected = debugfs_listing(image, f"/{folder}")
        listed = served.listing(folder)
        assert {file.name for file in listed} == set(expected)
        assert len(listed) == len(expected)
        for file in listed:
            inode, mode, size = expected[file.name]
            directory = mode & 0o170000 == 0o040000
            assert file.identifier == inode
            assert bool(file.attributes & FileAttributes.DIRECTORY) == directory
            assert bool(file.attributes & FileAttributes.READ_ONLY) == (mode & 0o222 == 0)
            assert bool(file.attributes & FileAttributes.EXECUTABLE) == (mode & 0o111 != 0 and not directory)
            assert file.size == (0 if directory else size)
            if file.name != "lost+found":
                assert file.modified == MODIFIED + len(file.name)

    def compare_numbers(self, image: Any, served: Any) -> None:
        said = dict(re.findall(r"^(.*?): +(.*)$", image.run("dumpe2fs", "-h", str(image.path)), re.MULTILINE))
        answer = served.request(Operation.FREE_SPACE).registers
        assert answer.edx << 32 | answer.eax == int(said["Free blocks"])
        assert answer.edi << 32 | answer.esi == int(said["Block count"])
        assert answer.ecx == int(said["Block size"])
        volume = served.request(Operation.VOLUME)
        assert volume.data.decode() == said["Filesystem volume name"] == "A label, 16 long"
        assert volume.registers.eax == VolumeFlags.READ_ONLY | VolumeFlags.CASE_SENSITIVE
        revised = said["Filesystem revision #"].startswith("1")  # revision 0 has no UUID
        assert volume.registers.ebx == (int(said["Filesystem UUID"][:8], 16) if revised else 0)

    @pytest.mark.thorough(one_in=6)
    def test_every_kind_of_ext_volume_is_named_as_blkid_names_it(self, populated: Any, host_tool: Any) -> None:
        named = host_tool("blkid", "-p", "-o", "value", "-s", "TYPE", populated.path).strip()
        head = bytes(populated.view()[:65536])
        assert Ext2Server.probe(head) == named


@pytest.mark.thorough(one_in=6)
@pytest.mark.parametrize("start", [0, 1, 63, 2048, 2049, 2055])
@pytest.mark.parametrize("options", ["-t ext2 -b 1024", "-t ext4 -b 4096"])
def test_pieces_of_ext_files_never_cross_a_block_of_the_disk_wherever_the_partition_starts(
    start: int, options: str, ext_image: Callable[[], Any], ext_client: Any
) -> None:
    image = make(ext_image(), options, "8M")
    size = len(image.view()) // 512
    served = ext_client(bytes(start * 512) + bytes(image.view()), start, size)
    sparse = (image.folder / "sparse").read_bytes()
    number = served.request(Operation.OPEN, "sparse").registers.eax
    for wanted in (1, 700, 4096, 1 << 20):
        for position in range(0, len(sparse), 99_991):
            begin, data, answer = served.read_extract(number, position, wanted)
            assert begin <= position < begin + len(data)
            assert data == sparse[begin : begin + len(data)]
            for sector, count in answer.sectors:
                assert sector is None or (start + sector) % 8 + count <= 8
    assert served.contents("sparse") == sparse


def test_the_ext_server_is_found_through_its_entry_point() -> None:
    (found,) = entry_points(group="callgate.servers", name="ext2")
    assert found.load().server_class() is Ext2Server


def test_two_opens_of_one_file_have_its_inode_as_identity(ext_image: Callable[[], Any], ext_client: Any) -> None:
    image = ext_image()
    (image.folder / "a").write_bytes(b"one file")
    (image.folder / "b").hardlink_to(image.folder / "a")
    (image.folder / "c").symlink_to("b")
    (image.folder / "d").write_bytes(b"another")
    served = ext_client(image.format("1M").view())
    opens = {name: served.request(Operation.OPEN, name).registers for name in "abcd"}
    inode = int(re.findall(r"Inode: (\d+)", image.debugfs("stat a"))[0])
    assert {opens[name].edi for name in "abc"} == {inode}
    assert opens["d"].edi not in {inode, 0}
    assert len({registers.eax for registers in opens.values()}) == 4


def test_closing_a_file_that_is_not_open_is_refused(ext_image: Callable[[], Any], ext_client: Any) -> None:
    served = ext_client(ext_image().format("1M").view())
    assert served.request(Operation.CLOSE, eax=1).error is ErrorCode.BAD_HANDLE
    assert served.request(Operation.READ, ebx=1, ecx=1).error is ErrorCode.BAD_HANDLE


def test_mounting_a_volume_costs_four_reads_and_a_snapshot_of_it_serves_on(
    ext_image: Callable[[], Any], ext_client: Any
) -> None:
    """Superblock, group descriptors, block bitmap, root directory's inode."""
    image = make(ext_image(), "-t ext4 -b 4096")
    served = ext_client(image.view())
    assert [call.eax for call in served.rehearsal.calls] == [ServerCall.LOCK_BLOCKS, ServerCall.UNLOCK_BLOCKS] * 4
    before = served.listing("many")
    calls = len(served.rehearsal.calls)
    served.rehearsal.server = served.server.duplicate(served.rehearsal.memory)
    assert served.listing("many") == before
    assert len(served.rehearsal.calls) == calls, "what was known is copied"
    assert served.contents("sparse") == (image.folder / "sparse").read_bytes()


def test_threads_that_run_at_once_in_the_ext_server_have_the_results_they_would_have_alone(
    ext_image: Callable[[], Any], ext_client: Any
) -> None:
    image = make(ext_image(), "-t ext2 -b 1024")
    requests = [
        (operation, path)
        for operation in (Operation.LOCK_DIRECTORY, Operation.OPEN)
        for path in ("many", "many/file with number 9", "sparse", "Sub Directory/deeper", "missing", "many", "sparse")
    ]
    alone = ext_client(image.view())
    expected = [alone.request(operation, path) for operation, path in requests]
    served = ext_client(image.view())
    rehearsal = served.rehearsal
    addresses = [rehearsal.post(operation, path.encode()) for operation, path in requests]
    waiting = [(address, served.server.serve(address), None) for address in addresses]
    replies = {}
    while waiting:
        address, coroutine, result = waiting.pop(0)
        try:
            call = coroutine.send(result)
        except StopIteration as stop:
            replies[address] = stop.value
        else:
            waiting.append((address, coroutine, rehearsal.answer(call)))
    for address, wanted in zip(addresses, expected, strict=True):
        answer = rehearsal.take(address, replies[address])
        assert answer.error == wanted.error
        if wanted.memory:
            assert [*read_pages(answer.memory)] == [*read_pages(wanted.memory)]
        elif not wanted.error:
            assert answer.registers[1:] == wanted.registers[1:], "all but the number of the open file"
