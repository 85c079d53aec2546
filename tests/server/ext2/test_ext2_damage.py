"""Damage by design: readable data are still read, and every refusal names the place and the reason."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode

KIB = 1024
DATA = bytes(range(256)) * 4 * 400  # 400 blocks of 1 KiB: direct, single and double indirect


class Disk:
    """Changes an image by hand; places come from debugfs, not from the server."""

    def __init__(self, image: Any) -> None:
        self.image = image
        self.raw = image.read()

    def word(self, offset: int, size: int = 4) -> int:
        return int.from_bytes(self.raw[offset : offset + size], "little")

    def put(self, offset: int, value: int, size: int = 4) -> None:
        self.raw[offset : offset + size] = value.to_bytes(size, "little")

    def inode_number(self, path: str) -> int:
        return int(re.findall(r"Inode: (\d+)", self.image.debugfs(f'stat "{path}"'))[0])

    def inode(self, path: str) -> int:
        """Return the offset of a file's inode."""
        block, offset = re.findall(r"block (\d+), offset 0x([0-9a-f]+)", self.image.debugfs(f'imap "{path}"'))[0]
        return int(block) * KIB + int(offset, 16)

    def block(self, path: str, index: int) -> int:
        """Return the block that holds block ``index`` of a file."""
        return int(self.image.debugfs(f'bmap "{path}" {index}'))


def make(image: Any, kind: str) -> Disk:
    """Return a volume of 1 KiB blocks with files that have a map of some size."""
    (image.folder / "dir").mkdir()
    (image.folder / "dir" / "a").write_bytes(b"first\n")
    (image.folder / "dir" / "b").write_bytes(b"second\n")
    (image.folder / "file").write_bytes(DATA)
    (image.folder / "other").write_bytes(b"unharmed\n")
    (image.folder / "link").symlink_to("y" * 70)
    with (image.folder / "comb").open("wb") as file:
        for tooth in range(60):
            file.seek(tooth * 4 * KIB)
            file.write(b"%04d" % tooth * 256)
    return Disk(image.format("9M", "-t", kind, "-b", "1024", "-O", "^metadata_csum"))


@pytest.fixture(params=["ext2", "ext4"])
def disk(request: pytest.FixtureRequest, ext_image: Callable[[], Any]) -> Disk:
    return make(ext_image(), request.param)


@pytest.fixture
def pointers(ext_image: Callable[[], Any]) -> Disk:
    return make(ext_image(), "ext2")


@pytest.fixture
def extents(ext_image: Callable[[], Any]) -> Disk:
    return make(ext_image(), "ext4")


def read_until_error(served: Any, path: str) -> tuple[bytes, ErrorCode, list[str]]:
    """Return what `cat` would show of a file, the error that ended it, and what was reported."""
    opened = served.request(Operation.OPEN, path)
    assert opened.error is ErrorCode.OK
    data = b""
    while True:
        start, part, answer = served.read_extract(opened.registers.eax, len(data), 1 << 20)
        if answer.error or not part:
            return data, answer.error, served.server.take_reports()
        data += part[len(data) - start :]


class TestPointers:
    def test_pointers_out_of_the_volume_end_the_file_there(self, pointers: Disk, ext_client: Any) -> None:
        disk = pointers
        inode = disk.inode("file")
        disk.put(inode + 40 + 4 * 5, 0xFFFF_FFF0)
        data, error, reports = read_until_error(ext_client(disk.raw), "file")
        assert (data, error) == (DATA[: 5 * KIB], ErrorCode.CORRUPT)
        number = disk.inode_number("file")
        assert reports == [f"d0p1: inode {number}: block 5 of the file is block 4294967280, the volume has up to 9215"]

    def test_pointers_to_the_superblock_are_not_data(self, pointers: Disk, ext_client: Any) -> None:
        pointers.put(pointers.inode("file") + 40, 1)
        data, error, _ = read_until_error(ext_client(pointers.raw), "file")
        assert (data, error) == (b"", ErrorCode.CORRUPT)

    @pytest.mark.parametrize(("level", "slot", "first"), [(1, 12, 12), (2, 13, 268)])
    def test_pointers_to_indirect_blocks_outside_the_volume_end_the_file(
        self, pointers: Disk, ext_client: Any, level: int, slot: int, first: int
    ) -> None:
        pointers.put(pointers.inode("file") + 40 + 4 * slot, 0x7000_0000)
        data, error, reports = read_until_error(ext_client(pointers.raw), "file")
        assert (data, error) == (DATA[: first * KIB], ErrorCode.CORRUPT)
        assert f"an indirect block of level {level} is block {0x70000000}" in reports[0]

    def test_pointers_in_a_circle_end_the_file(self, pointers: Disk, ext_client: Any) -> None:
        double = pointers.word(pointers.inode("file") + 40 + 4 * 13)
        pointers.put(double * KIB, double)
        data, error, reports = read_until_error(ext_client(pointers.raw), "file")
        assert (data, error) == (DATA[: 268 * KIB], ErrorCode.CORRUPT)
        assert f"indirect block {double} of level 1 is among those that lead to it" in reports[0]

    def test_pointers_in_a_block_that_cannot_be_read_are_an_io_error(self, pointers: Disk, ext_client: Any) -> None:
        single = pointers.word(pointers.inode("file") + 40 + 4 * 12)
        served = ext_client(pointers.raw)
        served.rehearsal.bad_sectors = {single * 2}
        data, error, reports = read_until_error(served, "file")
        assert (data, error) == (DATA[: 12 * KIB], ErrorCode.IO_ERROR)
        assert f"indirect block {single} of level 1: reading sectors {single * 2}" in reports[0]

    def test_pointers_cannot_reach_the_end_of_an_impossible_size(self, pointers: Disk, ext_client: Any) -> None:
        inode = pointers.inode("file")
        pointers.put(inode + 4, 0xFFFF_FFFF)
        pointers.put(inode + 108, 0x7FFF_FFFF)
        served = ext_client(pointers.raw)
        opened = served.request(Operation.OPEN, "file").registers
        assert opened.edx << 32 | opened.ecx == 0x7FFF_FFFF_FFFF_FFFF
        answer = served.request(Operation.READ, ebx=opened.eax, edx=0x100_0000, ecx=4096)
        assert answer.error is ErrorCode.CORRUPT
        assert "is beyond what pointers reach, 16843020 blocks" in served.server.take_reports()[0]


class TestExtents:
    def node(self, disk: Disk) -> int:
        """Return the offset of the only leaf of `comb`, whose root in the inode has depth 1."""
        return disk.word(disk.inode("comb") + 40 + 12 + 4) * KIB

    def refused(self, disk: Disk, ext_client: Any) -> str:
        served = ext_client(disk.raw)
        data, error, reports = read_until_error(served, "comb")
        assert (data, error) == (b"", ErrorCode.CORRUPT)
        assert served.contents("other") == b"unharmed\n"
        return str(reports[0])

    def test_extents_whose_node_has_no_magic_number_are_refused(self, extents: Disk, ext_client: Any) -> None:
        node = self.node(extents)
        extents.put(node, 0x1234, 2)
        text = f"extent node in block {node // KIB}: magic number 0x1234, expected 0xf30a"
        assert text in self.refused(extents, ext_client)

    def test_extents_whose_depths_do_not_fit_are_refused(self, extents: Disk, ext_client: Any) -> None:
        extents.put(self.node(extents) + 6, 1, 2)
        assert "depth 1, expected 0" in self.refused(extents, ext_client)
        extents.put(extents.inode("comb") + 40 + 6, 6, 2)
        assert "extent tree of depth 6; at most 5 can be" in self.refused(extents, ext_client)

    def test_extents_that_are_more_than_fit_are_refused(self, extents: Disk, ext_client: Any) -> None:
        extents.put(self.node(extents) + 2, 85, 2)
        assert "85 entries, 84 fit" in self.refused(extents, ext_client)

    def test_extents_that_overlap_are_refused(self, extents: Disk, ext_client: Any) -> None:
        extents.put(self.node(extents) + 12 + 4, 5, 2)  # ee_len of the first, the second begins at 4
        assert "the entries for blocks 0 and 4 overlap" in self.refused(extents, ext_client)

    def test_extents_that_have_no_blocks_are_refused(self, extents: Disk, ext_client: Any) -> None:
        extents.put(self.node(extents) + 12 + 4, 0, 2)
        assert "the extent for block 0 has no blocks" in self.refused(extents, ext_client)

    def test_extents_whose_root_points_to_itself_or_out_of_the_volume_are_refused(
        self, extents: Disk, ext_client: Any
    ) -> None:
        pointer = extents.inode("comb") + 40 + 12 + 4
        extents.put(pointer, 0x9999_9999)
        assert f"the node for block 0 is block {0x9999_9999}, outside the volume" in self.refused(extents, ext_client)
        extents.put(pointer, extents.inode("comb") // KIB)
        assert "magic number" in self.refused(extents, ext_client)

    def test_extents_outside_the_volume_end_the_file_there(self, extents: Disk, ext_client: Any) -> None:
        third = self.node(extents) + 12 * 3
        extents.put(third + 6, 1, 2)  # ee_start_hi
        data, error, reports = read_until_error(ext_client(extents.raw), "comb")
        assert data == (b"0000" * 256 + bytes(3 * KIB) + b"0001" * 256 + bytes(3 * KIB))
        assert error is ErrorCode.CORRUPT
        assert "block 8 of the file is block 42949" in reports[0]

    def test_extents_that_run_over_the_end_of_the_volume_end_the_file_there(
        self, extents: Disk, ext_client: Any
    ) -> None:
        first = extents.inode("file") + 40 + 12
        extents.put(first + 8, 9216 - 7)
        data, error, reports = read_until_error(ext_client(extents.raw), "file")
        assert len(data) == 7 * KIB
        assert error is ErrorCode.CORRUPT
        assert "block 7 of the file is block 9216, the volume has up to 9215" in reports[0]


class TestDirectories:
    @pytest.mark.parametrize("length", [0, 4, 8, 10, 13, 1025, 65532])
    def test_directories_whose_record_has_an_impossible_length_are_read_up_to_there(
        self, disk: Disk, ext_client: Any, length: int
    ) -> None:
        block = disk.block("dir", 0) * KIB
        disk.put(block + 24 + 12 + 4, length, 2)  # of "b", after ".", ".." and "a"
        served = ext_client(disk.raw)
        assert [file.name for file in served.listing("dir")] == ["a"]
        assert served.server.take_reports() == [
            f"d0p1: directory /dir is damaged: block 0, offset 36: a record of {length} bytes"
        ]
        assert served.contents("dir/a") == b"first\n"
        assert served.request(Operation.OPEN, "dir/b").error is ErrorCode.CORRUPT
        assert "and its directory is damaged: block 0, offset 36" in served.server.take_reports()[0]

    @pytest.mark.parametrize(("offset", "byte"), [(6, 200), (6, 0), (8, ord("/")), (8, 0)])
    def test_directories_whose_record_has_no_name_lack_only_that_record(
        self, disk: Disk, ext_client: Any, offset: int, byte: int
    ) -> None:
        block = disk.block("dir", 0) * KIB
        disk.put(block + 24 + offset, byte, 1)
        served = ext_client(disk.raw)
        assert [file.name for file in served.listing("dir")] == ["b"]
        (report,) = served.server.take_reports()
        assert report.startswith("d0p1: directory /dir is damaged: block 0, offset 24: ")

    @pytest.mark.parametrize("number", [0xFFFF_FFFF, 2000])
    def test_directories_that_name_a_missing_inode_list_the_name(
        self, disk: Disk, ext_client: Any, number: int
    ) -> None:
        disk.put(disk.block("dir", 0) * KIB + 24, number)
        served = ext_client(disk.raw)
        assert [(file.name, file.size) for file in served.listing("dir")] == [("a", 0), ("b", 7)]
        assert served.server.take_reports() == [f"d0p1: directory /dir is damaged: 'a': inode {number} cannot be used"]
        assert served.request(Operation.OPEN, "dir/a").error is ErrorCode.CORRUPT
        assert f"inode {number}" in served.server.take_reports()[0]
        assert served.contents("dir/b") == b"second\n"

    def test_directories_that_are_their_own_parents_are_refused(self, disk: Disk, ext_client: Any) -> None:
        disk.put(disk.block("dir", 0) * KIB + 24, 2)
        served = ext_client(disk.raw)
        assert served.listing("dir")[0].attributes & FileAttributes.DIRECTORY
        assert served.request(Operation.LOCK_DIRECTORY, "dir/a").error is ErrorCode.CORRUPT
        assert "directory loop, inode 2 is one of its own parents" in served.server.take_reports()[0]

    def test_directories_that_cannot_be_read_are_empty_until_they_can(self, disk: Disk, ext_client: Any) -> None:
        served = ext_client(disk.raw)
        served.rehearsal.bad_sectors = {disk.block("dir", 0) * 2 + 1}
        assert served.listing("dir") == []
        assert "directory block 0: reading sectors" in served.server.take_reports()[0]
        assert served.request(Operation.OPEN, "dir/a").error is ErrorCode.CORRUPT
        served.rehearsal.bad_sectors = set()
        assert [file.name for file in served.listing("dir")] == ["a", "b"]
        assert served.contents("dir/a") == b"first\n"

    def test_directories_whose_inodes_cannot_be_read_are_listed_without_sizes(
        self, ext_image: Any, ext_client: Any
    ) -> None:
        image = ext_image()
        for number in range(40):
            (image.folder / f"{number:02}").write_bytes(b"x" * number)
        disk = Disk(image.format("2M", "-t", "ext2", "-b", "1024"))
        served = ext_client(disk.raw)
        served.rehearsal.bad_sectors = {disk.inode("20") // 512}
        sizes = [file.size for file in served.listing("") if file.name != "lost+found"]
        wrong = [number for number, size in enumerate(sizes) if size != number]
        assert 20 in wrong
        assert len(wrong) == 4, "inodes of 256 bytes in a block of 1 KiB"
        assert "(and 3 more): inode" in served.server.take_reports()[0]
        served.rehearsal.bad_sectors = set()
        assert [file.size for file in served.listing("") if file.name != "lost+found"] == list(range(40))

    def test_directories_with_a_hole_lack_the_records_of_the_hole(self, pointers: Disk, ext_client: Any) -> None:
        pointers.put(pointers.inode("dir") + 40, 0)
        served = ext_client(pointers.raw)
        assert served.listing("dir") == []
        assert served.server.take_reports() == ["d0p1: directory /dir is damaged: block 0 is a hole"]


class TestInodes:
    @pytest.mark.parametrize(
        ("offset", "size", "value", "text"),
        [(0, 2, 0x3000, "i_mode 0o30000 is of no type"), (0, 2, 0, "is free"), (26, 2, 0, "is free")],
    )
    def test_inodes_that_do_not_exist_are_refused(
        self, disk: Disk, ext_client: Any, offset: int, size: int, value: int, text: str
    ) -> None:
        disk.put(disk.inode("file") + offset, value, size)
        served = ext_client(disk.raw)
        assert served.request(Operation.OPEN, "file").error is ErrorCode.CORRUPT
        assert f"inode {disk.inode_number('file')}" in (report := served.server.take_reports()[0])
        assert text in report

    @pytest.mark.parametrize("flag", [0x1000_0000, 0x800])
    def test_inodes_whose_data_are_inline_or_encrypted_are_not_supported(
        self, disk: Disk, ext_client: Any, flag: int
    ) -> None:
        inode = disk.inode("file")
        disk.put(inode + 32, disk.word(inode + 32) | flag)
        served = ext_client(disk.raw)
        assert read_until_error(served, "file")[:2] == (b"", ErrorCode.NOT_SUPPORTED)

    @pytest.mark.parametrize("size", [0, 1024, 0xFFFF_FFFF])
    def test_inodes_of_links_of_impossible_length_are_refused(self, disk: Disk, ext_client: Any, size: int) -> None:
        disk.put(disk.inode("link") + 4, size)
        served = ext_client(disk.raw)
        assert served.request(Operation.OPEN, "link").error is ErrorCode.CORRUPT
        assert f"a link target of {size} bytes" in served.server.take_reports()[0]


class TestGroups:
    def descriptor(self, disk: Disk, group: int) -> int:
        size = disk.word(1024 + 0xFE, 2) if disk.word(1024 + 0x60) & 0x80 else 32
        return 2 * KIB + group * size

    @pytest.mark.parametrize("table", [0, 1, 9216, 0xFFFF_FFFF])
    def test_groups_whose_descriptor_is_garbage_use_the_backup(self, disk: Disk, ext_client: Any, table: int) -> None:
        offset = self.descriptor(disk, 0)
        disk.put(offset + 8, table)
        served = ext_client(disk.raw)
        assert served.contents("file") == DATA
        reports = served.server.take_reports()
        assert len(reports) == 1
        assert "descriptor of group 0, block 2, offset 0: its inode table" in reports[0]
        assert reports[0].endswith("; the backup in block 8194 is used instead")

    def test_groups_without_a_good_descriptor_cost_only_their_inodes(self, disk: Disk, ext_client: Any) -> None:
        for base in (2 * KIB, 8194 * KIB):
            disk.put(base + self.descriptor(disk, 1) - 2 * KIB + 8, 0)
        served = ext_client(disk.raw)
        assert served.contents("file") == DATA
        assert any("descriptor of group 1" in report for report in served.server.take_reports())

    def test_volumes_without_a_usable_first_group_have_no_root(self, disk: Disk, ext_client: Any) -> None:
        for base in (2 * KIB, 8194 * KIB):
            disk.put(base + 8, 0)
        with pytest.raises(Exception, match="root directory: descriptor of group 0") as caught:
            ext_client(disk.raw)
        assert caught.value.code is ErrorCode.CORRUPT

    def test_groups_whose_bitmap_contradicts_the_descriptor_are_reported(self, disk: Disk, ext_client: Any) -> None:
        offset = self.descriptor(disk, 0)
        bitmap = disk.word(offset) * KIB
        disk.raw[bitmap + 1000] = 0xFF ^ disk.raw[bitmap + 1000]
        served = ext_client(disk.raw)
        assert re.search(r"group 0: its descriptor says \d+ free, its bitmap has \d+", served.server.take_reports()[0])
