"""Damaged volumes: what can be read is read, the rest is an error that names file, place and reason."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import FileSystemError, complete, read_pages
from callgate.server.fat.consistency import Report, check
from callgate.server.fat.tree import read_file, walk
from callgate.server.fat.volume import FatVolume

FORMATS = {12: (1440, "-F", "12"), 16: (8000, "-F", "16", "-s", "1"), 32: (36_000, "-F", "32", "-s", "1")}
END = {12: 0xFFF, 16: 0xFFFF, 32: 0x0FFFFFFF}
BAD = {12: 0xFF7, 16: 0xFFF7, 32: 0x0FFFFFF7}
DATA = bytes(range(250)) * 40  # 10,000 bytes: 20 clusters


@pytest.fixture(scope="module")
def sound() -> dict[int, bytes]:
    """Keep the volumes that mtools have made, by the width of a FAT's entries."""
    return {}


@pytest.fixture(params=[12, 16, 32])
def disk(request: pytest.FixtureRequest, sound: dict[int, bytes], fat_image: Callable[..., Any], patcher: Any) -> Any:
    """Return a patcher over a volume with FILE.BIN, OTHER.BIN, DIR and DIR/INNER.TXT."""
    if request.param not in sound:
        image = fat_image(*FORMATS[request.param])
        image.put("FILE.BIN", DATA)
        image.put("OTHER.BIN", DATA[::-1])
        image.mkdir("DIR")
        image.put("DIR/INNER.TXT", b"inside")
        sound[request.param] = bytes(image.read())
    disk = patcher(bytearray(sound[request.param]))
    assert disk.bits == request.param
    disk.file = disk.chain(disk.first_cluster(disk.record(b"FILE    BIN")))
    disk.other = disk.chain(disk.first_cluster(disk.record(b"OTHER   BIN")))
    assert len(disk.file) == len(disk.other) == 20
    return disk


def examine(image: bytearray) -> Report:
    return complete(check(mounted(image)))


def mounted(image: bytearray) -> FatVolume:
    class Reader:
        async def read(self, sector: int, count: int) -> bytes:
            data = bytes(image[sector * 512 : (sector + count) * 512])
            assert len(data) == count * 512
            return data

    return complete(FatVolume.mount(Reader(), len(image) // 512))


def read_until_error(served: Any, path: str) -> tuple[bytes, ErrorCode, list[str]]:
    number = served.request(Operation.OPEN, path).registers.eax
    data = b""
    while True:
        position, part, answer = served.read_extract(number, len(data), 1 << 20)
        if answer.error or not part:
            return data, answer.error, served.server.take_reports()
        assert position == len(data) // 512 * 512
        data = data[:position] + part


class TestChains:
    def broken(self, disk: Any, client: Any, link: int, good: int, reason: str) -> None:
        """Put ``link`` after the file's tenth cluster: ``good`` clusters are read, then comes an error."""
        disk.set_fat(disk.file[9], link)
        served = client(disk.image)
        served.server.take_reports()  # FSInfo may not know of what was changed here
        data, error, reports = read_until_error(served, "file.bin")
        assert (data, error) == (DATA[: good * 512], ErrorCode.CORRUPT)
        assert reports == [f"d0p1: file /file.bin of 10000 bytes is damaged: {reason}"]
        assert any(reason in problem or "its chain has" in problem for problem in examine(disk.image).problems)

    def test_chains_that_end_early_are_read_as_far_as_they_go(self, disk: Any, client: Any) -> None:
        self.broken(disk, client, END[disk.bits], 10, "its chain ends after 10 clusters")

    def test_chains_that_enter_a_free_cluster_end_before_it(self, disk: Any, client: Any) -> None:
        disk.set_fat(disk.file[12], 0)
        reason = f"cluster {disk.file[12]} is in its chain and is marked as free"
        self.broken(disk, client, disk.file[10], 12, reason)

    def test_chains_that_enter_a_bad_cluster_end_before_it(self, disk: Any, client: Any) -> None:
        reason = f"cluster {disk.file[12]} is in its chain and is marked as bad"
        disk.set_fat(disk.file[12], BAD[disk.bits])
        self.broken(disk, client, disk.file[10], 12, reason)

    def test_chains_that_leave_the_volume_end_there(self, disk: Any, client: Any) -> None:
        beyond = disk.clusters + 2
        self.broken(disk, client, beyond, 10, f"cluster {disk.file[9]} is followed by {beyond}, which is not a cluster")

    def test_chains_that_name_cluster_one_end_there(self, disk: Any, client: Any) -> None:
        self.broken(disk, client, 1, 10, f"cluster {disk.file[9]} is followed by 1, which is not a cluster")

    @pytest.mark.parametrize("target", [0, 4, 9])
    def test_chains_that_are_cyclic_end_where_they_close(self, target: int, disk: Any, client: Any) -> None:
        reason = f"its chain comes back to cluster {disk.file[target]}"
        self.broken(disk, client, disk.file[target], 10, reason)

    def test_chains_that_return_to_themselves_from_a_lower_cluster_end_there(self, disk: Any, client: Any) -> None:
        """A run that begins below the chain's clusters and goes on into them is cut in the middle."""
        before = disk.other[0] - 1
        disk.set_fat(before, disk.other[0])
        disk.set_fat(disk.other[19], before)
        disk.set_word(disk.record(b"OTHER   BIN") + 28, 4, 1 << 20)
        served = client(disk.image)
        served.server.take_reports()
        data, error, reports = read_until_error(served, "OTHER.BIN")
        assert (data[:10000], len(data), error) == (DATA[::-1], 21 * 512, ErrorCode.CORRUPT)
        assert reports[0].endswith(f"its chain comes back to cluster {disk.other[0]}")

    def test_chains_that_begin_outside_the_volume_give_no_data(self, disk: Any, client: Any) -> None:
        for first in (1, disk.clusters + 2):
            disk.set_first_cluster(disk.record(b"FILE    BIN"), first)
            data, error, reports = read_until_error(client(disk.image), "FILE.BIN")
            assert (data, error) == (b"", ErrorCode.CORRUPT)
            assert f"its first cluster is {first}, and the volume has 2 to {disk.clusters + 1}" in reports[0]

    def test_a_file_with_a_size_and_no_chain_gives_no_data(self, disk: Any, client: Any) -> None:
        disk.set_first_cluster(disk.record(b"FILE    BIN"), 0)
        data, error, reports = read_until_error(client(disk.image), "FILE.BIN")
        assert (data, error) == (b"", ErrorCode.CORRUPT)
        assert "its chain ends after 0 clusters" in reports[0]

    def test_chains_that_are_too_long_are_read_up_to_the_files_size(self, disk: Any, client: Any) -> None:
        disk.set_word(disk.record(b"FILE    BIN") + 28, 4, 700)
        data, error, _ = read_until_error(client(disk.image), "FILE.BIN")
        assert (data, error) == (DATA[:700], ErrorCode.OK)
        assert "file /FILE.BIN of 700 bytes: its chain has 18 clusters too many" in examine(disk.image).problems

    def test_chains_that_are_cross_linked_are_read_and_reported(self, disk: Any, client: Any) -> None:
        disk.set_fat(disk.file[9], disk.other[10])
        served = client(disk.image)
        assert served.contents("FILE.BIN") == DATA[: 10 * 512] + DATA[::-1][10 * 512 :]
        assert served.contents("OTHER.BIN") == DATA[::-1]
        report = examine(disk.image)
        assert report.problems == (
            f"cross-link: cluster {disk.other[10]} belongs to /OTHER.BIN and to /FILE.BIN",
            "10 clusters are in use and belong to no file",
        )
        assert report.lost_clusters == 10

    def test_chains_with_garbage_in_the_reserved_bits_of_fat32_are_sound(self, disk: Any, client: Any) -> None:
        if disk.bits == 32:
            for cluster in disk.file:
                disk.set_fat(cluster, disk.fat(cluster) | 0xA0000000)
        assert client(disk.image).contents("FILE.BIN") == DATA


class TestDirectories:
    def names(self, served: Any, path: str = "") -> list[str]:
        answer = served.request(Operation.LOCK_DIRECTORY, path)
        assert answer.error is ErrorCode.OK
        return [file.name for file in read_pages(answer.memory)]

    def test_directories_that_loop_to_an_ancestor_are_an_error_and_are_walked_once(
        self, disk: Any, client: Any
    ) -> None:
        inner = disk.record(b"INNER   TXT")
        directory = disk.first_cluster(disk.record(b"DIR        "))
        disk.image[inner + 11] = 0x10
        disk.set_first_cluster(inner, directory)
        served = client(disk.image)
        assert self.names(served, "DIR") == ["INNER.TXT"]
        for path in ("DIR/INNER.TXT", "DIR/INNER.TXT/INNER.TXT/INNER.TXT"):
            assert served.request(Operation.LOCK_DIRECTORY, path).error is ErrorCode.CORRUPT
        assert served.server.take_reports()[0] == (
            f"d0p1: /DIR/INNER.TXT: directory loop, cluster {directory} is one of its parents"
        )
        tree = complete(walk(mounted(disk.image)))
        assert len(tree.found) == 4
        assert f"directory /DIR/INNER.TXT: its cluster {directory} is that of /DIR" in tree.problems

    @pytest.mark.parametrize("cluster", [0, 1])
    def test_directories_without_a_cluster_are_an_error(self, cluster: int, disk: Any, client: Any) -> None:
        disk.set_first_cluster(disk.record(b"DIR        "), cluster)
        served = client(disk.image)
        assert self.names(served) == ["FILE.BIN", "OTHER.BIN", "DIR"]
        assert served.request(Operation.LOCK_DIRECTORY, "DIR").error is ErrorCode.CORRUPT
        assert served.request(Operation.OPEN, "DIR/INNER.TXT").error is ErrorCode.CORRUPT
        reports = served.server.take_reports()
        if cluster:
            assert "directory DIR: its first cluster is 1" in reports[0]

    def test_directories_with_a_broken_chain_are_listed_as_far_as_it_goes(self, disk: Any, client: Any) -> None:
        directory = disk.first_cluster(disk.record(b"DIR        "))
        offset = disk.cluster_offset(directory)
        record = bytes(disk.image[offset + 64 : offset + 96])
        for i in range(2, disk.cluster_bytes // 32):  # no end mark: the chain decides
            disk.image[offset + i * 32 : offset + i * 32 + 32] = b"N%-10d" % i + record[11:]
        disk.set_fat(directory, 1)
        served = client(disk.image)
        assert len(self.names(served, "DIR")) == 14
        reason = f"cluster {directory} is followed by 1, which is not a cluster"
        assert served.server.take_reports() == [f"d0p1: directory /DIR is damaged: {reason}"]
        assert served.request(Operation.OPEN, "DIR/N5").error is ErrorCode.OK
        assert served.request(Operation.OPEN, "DIR/N99").error is ErrorCode.CORRUPT

    def test_directories_with_a_cyclic_chain_list_every_entry_once(self, disk: Any, client: Any) -> None:
        directory = disk.first_cluster(disk.record(b"DIR        "))
        offset = disk.cluster_offset(directory)
        for i in range(2, disk.cluster_bytes // 32):
            disk.image[offset + i * 32] = 0xE5
        disk.set_fat(directory, directory)
        served = client(disk.image)
        assert self.names(served, "DIR") == []
        assert f"its chain comes back to cluster {directory}" in served.server.take_reports()[0]

    def test_directories_end_at_their_end_mark_whatever_comes_after(self, disk: Any, client: Any) -> None:
        record = disk.record(b"OTHER   BIN")
        disk.image[record] = 0
        assert self.names(client(disk.image)) == ["FILE.BIN"]

    @pytest.mark.thorough(only=True)
    def test_directories_that_are_too_large_are_cut_at_2_mib(
        self, fat_image: Callable[..., Any], patcher: Any, client: Any
    ) -> None:
        disk = patcher(fat_image(36_000, "-F", "32", "-s", "1").read())
        clusters = 4097
        root = 2
        for cluster in range(root, root + clusters):
            disk.set_fat(cluster, cluster + 1 if cluster < root + clusters - 1 else END[32])
        raw = b"".join(b"F%-10d" % i + b"\x20" + bytes(20) for i in range(clusters * 16))
        disk.image[disk.cluster_offset(root) : disk.cluster_offset(root) + len(raw)] = raw
        served = client(disk.image)
        answer = served.request(Operation.LOCK_DIRECTORY, "/")
        # A reply carries 506 pages: of 65,536 records not all can be listed, but all can be opened.
        assert len(answer.memory) == 506 * 4096
        assert 40_000 < answer.registers.edi < 65_536
        reports = served.server.take_reports()
        assert any("directory / is damaged: it is larger than 2097152 bytes" in report for report in reports)
        assert any(f"{answer.registers.edi} of its 65536 entries are listed" in report for report in reports)
        assert served.request(Operation.OPEN, "/F65535").error is ErrorCode.OK


class TestVolumeState:
    def flags(self, served: Any) -> VolumeFlags:
        return VolumeFlags(served.request(Operation.VOLUME).registers.eax)

    def test_a_sound_fat_volume_is_clean_and_read_only(self, disk: Any, client: Any) -> None:
        assert self.flags(client(disk.image)) == VolumeFlags.READ_ONLY

    def test_a_fat_volume_is_dirty_by_the_bits_of_the_second_fat_entry(self, disk: Any, client: Any) -> None:
        if disk.bits == 12:
            return
        for bit in {16: (0x8000, 0x4000), 32: (0x08000000, 0x04000000)}[disk.bits]:
            sound = disk.fat(1)
            disk.set_fat(1, sound & ~bit)
            assert self.flags(client(disk.image)) & VolumeFlags.DIRTY
            disk.set_fat(1, sound)

    def test_a_fat_volume_is_dirty_by_the_flag_in_the_boot_sector(self, disk: Any, client: Any) -> None:
        disk.image[65 if disk.bits == 32 else 37] |= 1
        assert self.flags(client(disk.image)) & VolumeFlags.DIRTY

    def test_a_fat_volume_is_dirty_when_the_media_bytes_disagree(self, disk: Any, client: Any) -> None:
        disk.set_fat(0, disk.fat(0) & ~0xFF | 0xF1)
        served = client(disk.image)
        assert self.flags(served) & VolumeFlags.DIRTY
        assert "the first FAT entry names media 0xf1, the boot sector 0xf" in served.server.take_reports()[0]

    def test_copies_of_the_fat_that_differ_are_reported_by_the_check(self, disk: Any) -> None:
        disk.set_fat(disk.file[3], 5, range(1, 2))
        assert examine(disk.image).problems == ("FAT 1 differs from FAT 0",)

    def test_a_mirror_is_read_where_the_first_fat_cannot_be(self, disk: Any, client: Any) -> None:
        served = client(disk.image)
        served.server.volume.table._windows.clear()
        start = disk.fat_offset // 512
        served.rehearsal.bad_sectors = set(range(start, start + disk.fat_bytes // 512))
        assert served.contents("FILE.BIN") == DATA
        assert any("a mirror of the FAT was read" in report for report in served.server.take_reports())

    def test_bad_clusters_are_neither_free_nor_lost(self, disk: Any, client: Any) -> None:
        free = client(disk.image).request(Operation.FREE_SPACE).registers.eax
        disk.set_fat(disk.clusters + 1, BAD[disk.bits])
        assert client(disk.image).request(Operation.FREE_SPACE).registers.eax == free - 1
        assert examine(disk.image).lost_clusters == 0

    def test_a_read_error_in_a_directory_is_an_io_error_and_passes(self, disk: Any, client: Any) -> None:
        served = client(disk.image)
        sector = disk.cluster_offset(disk.first_cluster(disk.record(b"DIR        "))) // 512
        served.rehearsal.bad_sectors = {sector}
        assert served.request(Operation.OPEN, "DIR/INNER.TXT").error is ErrorCode.IO_ERROR
        served.rehearsal.bad_sectors = set()
        assert served.contents("DIR/INNER.TXT") == b"inside"
        assert served.rehearsal.locks == {}


class TestFat32:
    @pytest.fixture
    def disk(self, fat_image: Callable[..., Any], patcher: Any) -> Any:
        image = fat_image(*FORMATS[32])
        image.put("FILE.BIN", DATA)
        return patcher(image.read())

    def test_fsinfo_is_only_a_hint(self, disk: Any, client: Any) -> None:
        free = client(disk.image).request(Operation.FREE_SPACE).registers.eax
        disk.set_word(512 + 488, 4, 12345)
        served = client(disk.image)
        assert served.request(Operation.FREE_SPACE).registers.eax == free
        assert served.server.take_reports() == [f"d0p1: FSInfo sector 1 says 12345 free clusters; the FAT has {free}"]

    def test_an_fsinfo_sector_without_counts_is_not_damage(self, disk: Any, client: Any) -> None:
        disk.set_word(512 + 488, 4, 0xFFFFFFFF)
        assert client(disk.image).server.take_reports() == []

    def test_fsinfo_without_its_signature_is_reported(self, disk: Any, client: Any) -> None:
        disk.set_word(512, 4, 0)
        assert "its signatures are wrong" in client(disk.image).server.take_reports()[0]

    def test_the_active_fat_is_the_one_that_extflags_name(self, disk: Any, client: Any) -> None:
        disk.set_word(40, 2, 0x81)
        for cluster in range(disk.clusters + 2):
            disk.set_fat(cluster, 0, range(1))
        served = client(disk.image)
        assert served.contents("FILE.BIN") == DATA
        disk.set_word(40, 2, 0x80)
        assert client(disk.image).request(Operation.OPEN, "FILE.BIN").error is ErrorCode.CORRUPT


def test_a_hostile_volume_where_every_file_shares_one_chain_is_checked_in_bounded_time(
    fat_image: Callable[..., Any], patcher: Any
) -> None:
    disk = patcher(fat_image(1440).read())
    for cluster in range(2, disk.clusters + 1):
        disk.set_fat(cluster, cluster + 1)
    disk.set_fat(disk.clusters + 1, END[12])
    for i in range(200):
        offset = disk.root_offset + i * 32
        disk.image[offset : offset + 32] = b"F%-10d\x20" % i + bytes(14) + b"\x02\0" + bytes(4)
    problems = examine(disk.image).problems
    assert "and 109 more" in problems or any("too much is cross-linked" in text for text in problems)


def test_read_file_reports_a_short_chain_too(fat_image: Callable[..., Any], patcher: Any) -> None:
    image = fat_image(1440)
    image.put("FILE.BIN", DATA)
    disk = patcher(image.read())
    disk.set_word(disk.record(b"FILE    BIN") + 28, 4, 20_000)
    with pytest.raises(FileSystemError, match=r"file FILE\.BIN of 20000 bytes is damaged: its chain ends after 20"):
        complete(read_file(mounted(disk.image), "FILE.BIN"))
