"""Bad images at the command line: the exit code, a message that names file, place and reason, nothing lost."""

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import host_programs
import pytest
from callgate.disk.images.builder import create_image
from callgate.kernel.system import System

EXIT_IMAGE = 5
DATA = bytes(range(250)) * 320  # 80,000 bytes: 20 clusters of 4 KiB
CLUSTER = 4096
FILES = {
    "FILE.BIN": DATA,
    "OTHER.BIN": DATA[::-1],
    "GOOD.TXT": b"good\n",
    "DIR/INNER.TXT": b"inside\n",
    "A long name.txt": b"long\n",
}
END = {12: 0xFFF, 16: 0xFFFF, 32: 0x0FFFFFFF}
NOBODY = 65534

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def nothing_is_lost(monkeypatch: pytest.MonkeyPatch, find_leaks: Callable[[System], list[str]]) -> Iterator[None]:
    """Check every system before it is closed, whether or not the command succeeded."""
    found: list[str] = []
    close = System.close

    def look_and_close(system: System) -> None:
        found.extend(find_leaks(system))
        close(system)

    monkeypatch.setattr(System, "close", look_and_close)
    yield
    assert found == []


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "files"


@pytest.fixture
def image(files: Path) -> Callable[..., Path]:
    """Make a sound image in the current directory: `image("a.img", fs="fat12")`."""

    def make(name: str = "bad.img", **options: Any) -> Path:
        create_image(Path(name), files, **options)
        return Path(name)

    return make


@contextmanager
def changed(path: Path) -> Iterator[mmap.mmap]:
    """Change an image's bytes in place."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        yield content


class TestWhatIsNoImage:
    def refused(self, command_line: Command, name: str, reason: str) -> None:
        commands = (["boot", name, "-c", "dir"], ["disk", "inspect", name], ["fuzz", "images", "--image", name])
        for arguments in commands:
            outcome = command_line(*arguments)
            assert (outcome.status, outcome.stdout) == (EXIT_IMAGE, b"")
            assert outcome.messages == f"callgate: {name}: {reason}\n"

    def test_a_missing_image_file_is_named(self, command_line: Command) -> None:
        self.refused(command_line, "missing.img", "there is no such file")

    def test_a_tilde_that_no_shell_has_expanded_is_explained(self, command_line: Command) -> None:
        for name in ("~", "~/a.img", "~nobody/a.img"):
            self.refused(command_line, name, "there is no such file; only the shell expands ~, where it is not quoted")

    def test_an_image_file_with_a_read_error_is_named(self, command_line: Command) -> None:
        self.refused(command_line, "/proc/self/mem", "cannot be read: Invalid argument")

    def test_a_block_device_is_an_image_like_any_other(self, command_line: Command, image: Any) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root makes block devices")
        host_programs.find("losetup")
        path = image("disk.img", fs="fat12")
        made = host_programs.attempt("losetup", "--find", "--show", "--read-only", path.resolve())
        device = made.stdout.decode().strip()
        if made.returncode:
            pytest.skip("no loop device can be had here")
        try:
            outcome = command_line("boot", "-q", device, "-c", "cat GOOD.TXT")
            assert (outcome.status, outcome.stdout) == (0, b"good\n")
            assert (
                command_line("disk", "inspect", device).stdout.splitlines()[1:]
                == (command_line("disk", "inspect", path).stdout.splitlines()[1:])
            )
        finally:
            host_programs.run("losetup", "--detach", device)

    def test_an_empty_image_file_is_refused(self, command_line: Command) -> None:
        Path("empty.img").touch()
        self.refused(command_line, "empty.img", "is empty; a disk image is a multiple of 512 bytes")

    def test_an_image_shorter_than_a_sector_is_refused(self, command_line: Command) -> None:
        Path("short.img").write_bytes(b"\xeb\x3c\x90mkfs.fat" * 20)
        reason = "is 220 bytes long, shorter than one sector; a disk image is a multiple of 512 bytes"
        self.refused(command_line, "short.img", reason)

    def test_a_directory_as_an_image_is_refused(self, command_line: Command) -> None:
        Path("folder").mkdir()
        hint = "make an image of it: callgate disk create OUT --from DIR"
        self.refused(command_line, "folder", f"is a directory, not a disk image; {hint}")

    def test_a_named_pipe_as_an_image_is_refused(self, command_line: Command) -> None:
        os.mkfifo("pipe")
        self.refused(command_line, "pipe", "is not a regular file")

    def test_an_image_file_without_read_permission_is_refused(self, command_line: Command, image: Any) -> None:
        assert command_line("boot", "-q", image("secret.img"), "-c", "true").status == 0  # all modules are loaded
        Path("secret.img").chmod(0)
        root = os.geteuid() == 0
        if root:
            Path.cwd().chmod(0o755)  # a relative path needs no right to the directories above
            os.seteuid(NOBODY)
        try:
            self.refused(command_line, "secret.img", "may not be read; check its permissions")
        finally:
            if root:
                os.seteuid(0)


# Bytes put into the boot sector of a FAT12 volume of 2048 sectors, and the message about them.
ABSURD = {
    "0 bytes per sector": (11, b"\0\0", "boot sector, offset 11: BPB_BytsPerSec is 0 (0x0); expected 512, 1024"),
    "500 bytes per sector": (11, b"\xf4\1", "boot sector, offset 11: BPB_BytsPerSec is 500 (0x1f4); expected 512,"),
    "0 sectors per cluster": (13, b"\0", "boot sector, offset 13: BPB_SecPerClus is 0 (0x0); expected a power of"),
    "3 sectors per cluster": (13, b"\3", "boot sector, offset 13: BPB_SecPerClus is 3 (0x3); expected a power of"),
    "no reserved sector": (14, b"\0\0", "boot sector, offset 14: BPB_RsvdSecCnt is 0 (0x0); expected 1 or more"),
    "0 FATs": (16, b"\0", "boot sector, offset 16: BPB_NumFATs is 0 (0x0); expected 1 or more"),
    "no root directory": (17, b"\0\0", "boot sector, offset 17: BPB_RootEntCnt is 0 (0x0); expected 1 or more"),
    "more sectors than the disk": (19, b"\xff\xff", "boot sector, offset 19: BPB_TotSec16 is 65535 (0xffff); expected"),
    "no sectors": (19, b"\0\0", "boot sector, offset 32: BPB_TotSec32 is 0 (0x0); expected 1 or more here or in"),
    "more clusters than the FAT holds": (13, b"\1", "boot sector, offset 22: BPB_FATSz16 is 1 (0x1); expected"),
    "a FAT larger than the volume": (22, b"\xff\xff", "boot sector, offset"),
}


class TestBootSectors:
    @pytest.mark.thorough(one_in=4)
    @pytest.mark.parametrize(("offset", "change", "reason"), ABSURD.values(), ids=ABSURD)
    def test_an_absurd_number_in_a_boot_sector_is_named(
        self, command_line: Command, image: Any, offset: int, change: bytes, reason: str
    ) -> None:
        with changed(image(fs="fat12", size=1 << 20)) as content:
            content[offset : offset + len(change)] = change
        outcome = command_line("boot", "bad.img", "-c", "cat GOOD.TXT")
        assert (outcome.status, outcome.stdout) == (EXIT_IMAGE, b""), outcome.messages
        lines = outcome.messages.splitlines()
        assert lines[0] == "callgate: d0: image bad.img"
        assert any(reason in line for line in lines), lines
        hint = "look into it: callgate disk inspect bad.img"
        assert lines[-1] == f"callgate: bad.img: no volume that can be used; {hint}"

    @pytest.mark.parametrize("content", [b"garbage" * 5000, bytes(1 << 16), bytes(range(256)) * 64])
    def test_garbage_is_not_mounted_as_a_file_system(self, command_line: Command, content: bytes) -> None:
        Path("bad.img").write_bytes(content)
        outcome = command_line("boot", "-q", "bad.img", "-c", "dir")
        assert (outcome.status, outcome.stdout) == (EXIT_IMAGE, b"")
        assert "callgate: d0: no file system that a server knows, skipped\n" in outcome.messages

    def test_a_truncated_image_is_called_truncated(self, command_line: Command, image: Any) -> None:
        os.truncate(image(fs="fat12", size=1 << 20), 300_100)
        outcome = command_line("boot", "bad.img", "-c", "cat FILE.BIN; cat OTHER.BIN GOOD.TXT")
        assert outcome.stdout.startswith(DATA)
        assert "bad.img: the last 68 bytes are not a whole sector and are padded with zeros" in outcome.messages
        said = "the volume has 2048 sectors of 512 bytes, and the partition 587 (a truncated image?)"
        assert f"callgate: d0: {said}; what lies beyond cannot be read\n" in outcome.messages

    def test_an_image_that_ends_before_the_root_directory_is_called_truncated(
        self, command_line: Command, image: Any
    ) -> None:
        os.truncate(image(fs="fat12", size=1 << 20), 1024)
        outcome = command_line("boot", "bad.img", "-c", "dir")
        assert outcome.status == EXIT_IMAGE
        assert "BPB_TotSec16 is 2048 (0x800); expected at most 2" in outcome.messages
        assert "(a truncated image?)" in outcome.messages

    def test_other_disks_are_used_beside_a_bad_one(self, command_line: Command, image: Any) -> None:
        image("good.img", fs="fat16")
        with changed(image("bad.img", fs="fat12")) as content:
            content[16] = 0
        outcome = command_line("boot", "bad.img", "good.img", "-c", "ls /; cat /d1/GOOD.TXT /d0/GOOD.TXT")
        assert outcome.stdout == b"d1\nrom\ngood\ncat: /d0/GOOD.TXT: no such file or directory\n"
        assert "callgate: d0: image bad.img\n" in outcome.messages
        assert "callgate: d0: not mounted: the file-system server died\n" in outcome.messages
        assert outcome.status == 1


class TestPartitionTables:
    def entry(self, image: Path, number: int, start: int, sectors: int, kind: int = 1) -> None:
        """Write an entry of the master boot record; partition 1 is sound and starts at sector 2048."""
        entry = bytes([0, 0, 0, 0, kind, 0, 0, 0]) + start.to_bytes(4, "little") + sectors.to_bytes(4, "little")
        with changed(image) as content:
            content[430 + number * 16 : 446 + number * 16] = entry

    def booted(self, command_line: Command, reason: str) -> None:
        """The reason is on standard error, and the first partition is there."""
        outcome = command_line("boot", "bad.img", "-c", "ls /; cat /d0p1/GOOD.TXT")
        assert (outcome.status, outcome.stdout) == (0, b"d0p1\nrom\ngood\n"), outcome.messages
        assert f"callgate: d0: {reason}\n" in outcome.messages
        inspected = command_line("disk", "inspect", "bad.img")
        assert inspected.status == 0
        assert f"problem: {reason}\n" in inspected.stdout.decode()

    @pytest.mark.parametrize(("start", "sectors"), [(1 << 20, 100), (0xFFFFFFFF, 0xFFFFFFFF)])
    def test_a_partition_outside_the_disk_is_left_out(
        self, command_line: Command, image: Any, start: int, sectors: int
    ) -> None:
        path = image(fs="fat12", scheme="mbr")
        self.entry(path, 2, start, sectors)
        size = path.stat().st_size // 512
        end = start + sectors - 1
        reason = f"sector 0: partition 2 (sectors {start} to {end}) lies outside the disk of {size} sectors"
        self.booted(command_line, reason)

    def test_a_partition_over_another_is_left_out(self, command_line: Command, image: Any) -> None:
        self.entry(image(fs="fat12", scheme="mbr"), 2, 2100, 50)
        self.booted(command_line, "sector 0: partition 2 (sectors 2100 to 2149) overlaps partition 1")

    def test_a_loop_of_extended_partitions_is_cut_in_a_boot(self, command_line: Command, image: Any) -> None:
        path = image(fs="fat12", scheme="mbr", size=4 << 20)
        os.truncate(path, 8 << 20)
        start = (4 << 20) // 512
        self.entry(path, 2, start, 4096, kind=5)
        with changed(path) as content:
            link = bytes([0, 0, 0, 0, 5, 0, 0, 0]) + (64).to_bytes(4, "little") + (64).to_bytes(4, "little")
            for record in (start, start + 64):
                content[record * 512 + 462 : record * 512 + 478] = link
                content[record * 512 + 510 : record * 512 + 512] = b"\x55\xaa"
        self.booted(command_line, f"sector {start + 64}: the chain of extended boot records does not end")

    def test_a_boot_reads_a_damaged_gpt_from_its_backup(self, command_line: Command, image: Any) -> None:
        with changed(image(fs="fat12", scheme="gpt")) as content:
            content[512 + 40] ^= 1
        self.booted(command_line, "sector 1: a GPT header with a wrong checksum")

    def test_a_table_without_partitions_cannot_be_booted(self, command_line: Command) -> None:
        Path("bad.img").write_bytes((bytes(510) + b"\x55\xaa").ljust(1 << 16, b"\0"))
        outcome = command_line("boot", "bad.img", "-c", "true")
        assert outcome.status == EXIT_IMAGE
        assert "d0: sector 0: a boot sector without partitions and without a file system" in outcome.messages


@pytest.fixture(params=[12, 16, 32])
def volume(request: pytest.FixtureRequest, command_line: Command, image: Any, patcher: Any) -> Iterator[Any]:
    """A patcher over bad.img, with the chains of FILE.BIN and OTHER.BIN."""
    with changed(image(fs=f"fat{request.param}")) as content:
        volume = patcher(content)
        assert volume.bits == request.param
        volume.command_line = command_line
        volume.file = volume.chain(volume.first_cluster(volume.record(b"FILE    BIN")))
        volume.other = volume.chain(volume.first_cluster(volume.record(b"OTHER   BIN")))
        assert len(volume.file) == len(volume.other) == 20
        yield volume


@pytest.mark.thorough(one_in=2)
class TestChains:
    """Readable data are printed, the command fails, the reason is named, the other files are unharmed."""

    def check(self, volume: Any, good: int, reason: str) -> None:
        outcome = volume.command_line("boot", "bad.img", "-c", "cat FILE.BIN; cat GOOD.TXT OTHER.BIN; cat FILE.BIN")
        expected = DATA[: good * CLUSTER] + b"cat: FILE.BIN: the file system is damaged\n"
        assert (outcome.stdout, outcome.status) == (expected + b"good\n" + DATA[::-1] + expected, 1)
        assert f"callgate: d0: file /FILE.BIN of {len(DATA)} bytes is damaged: {reason}\n" in outcome.messages

    def test_a_file_larger_than_its_chain_is_read_as_far_as_it_goes(self, volume: Any) -> None:
        volume.set_fat(volume.file[9], END[volume.bits])
        self.check(volume, 10, "its chain ends after 10 clusters")

    def test_a_file_with_a_cyclic_chain_is_read_as_far_as_it_goes(self, volume: Any) -> None:
        volume.set_fat(volume.file[9], volume.file[4])
        self.check(volume, 10, f"its chain comes back to cluster {volume.file[4]}")

    def test_a_chain_out_of_the_volume_is_read_as_far_as_it_goes(self, volume: Any) -> None:
        beyond = volume.clusters + 2
        volume.set_fat(volume.file[9], beyond)
        self.check(volume, 10, f"cluster {volume.file[9]} is followed by {beyond}, which is not a cluster")

    def test_a_chain_into_a_free_cluster_is_read_as_far_as_it_goes(self, volume: Any) -> None:
        volume.set_fat(volume.file[12], 0)
        self.check(volume, 12, f"cluster {volume.file[12]} is in its chain and is marked as free")

    def test_a_first_cluster_beyond_the_end_is_an_error(self, volume: Any) -> None:
        beyond = volume.clusters + 2
        volume.set_first_cluster(volume.record(b"FILE    BIN"), beyond)
        self.check(volume, 0, f"its first cluster is {beyond}, and the volume has 2 to {volume.clusters + 1}")

    def test_cross_linked_chains_are_read_as_they_are(self, volume: Any) -> None:
        volume.set_fat(volume.file[9], volume.other[10])
        outcome = volume.command_line("boot", "-q", "bad.img", "-c", "cat FILE.BIN OTHER.BIN")
        assert outcome.stdout == DATA[: 10 * CLUSTER] + DATA[::-1][10 * CLUSTER :] + DATA[::-1]
        assert outcome.status == 0


@pytest.mark.thorough(one_in=2)
class TestDirectories:
    def test_a_directory_loop_is_an_error_of_that_directory_alone(self, volume: Any) -> None:
        inner = volume.record(b"INNER   TXT")
        directory = volume.first_cluster(volume.record(b"DIR        "))
        volume.image[inner + 11] = 0x10
        volume.set_first_cluster(inner, directory)
        commands = "ls DIR; ls DIR/INNER.TXT; cat DIR/INNER.TXT/INNER.TXT/INNER.TXT; cat GOOD.TXT"
        outcome = volume.command_line("boot", "bad.img", "-c", commands)
        assert outcome.stdout.splitlines() == [
            b"INNER.TXT",
            b"ls: DIR/INNER.TXT: the file system is damaged",
            b"cat: DIR/INNER.TXT/INNER.TXT/INNER.TXT: the file system is damaged",
            b"good",
        ]
        assert f"d0: /DIR/INNER.TXT: directory loop, cluster {directory} is one of its parents" in outcome.messages
        assert outcome.status == 0

    def test_a_directory_outside_the_volume_is_an_error(self, volume: Any) -> None:
        volume.set_first_cluster(volume.record(b"DIR        "), 1)
        outcome = volume.command_line("boot", "bad.img", "-c", "ls DIR")
        assert (outcome.stdout, outcome.status) == (b"ls: DIR: the file system is damaged\n", 1)
        assert "directory DIR: its first cluster is 1" in outcome.messages

    def test_a_long_name_with_a_bad_checksum_is_replaced_by_the_short_one(self, volume: Any) -> None:
        short = volume.record(b"ALONGN~1TXT")
        for record in range(short - 64, short, 32):
            assert volume.image[record + 11] == 0x0F
            volume.image[record + 13] ^= 0xFF
        outcome = volume.command_line("boot", "-q", "bad.img", "-c", "ls; cat ALONGN~1.TXT")
        lines = outcome.stdout.decode().splitlines()
        assert "ALONGN~1.TXT" in lines
        assert "A long name.txt" not in lines
        assert (lines[-1], outcome.status) == ("long", 0)

    def test_directory_entries_past_the_end_mark_are_not_listed(self, volume: Any) -> None:
        record = volume.record(b"GOOD    TXT")
        listed = volume.command_line("boot", "-q", "bad.img", "-c", "ls").stdout.split(b"\n")
        volume.image[record] = 0
        outcome = volume.command_line("boot", "-q", "bad.img", "-c", "ls; cat GOOD.TXT")
        kept = listed[: listed.index(b"GOOD.TXT")]
        assert outcome.stdout.split(b"\n") == [*kept, b"cat: GOOD.TXT: no such file or directory", b""]
        assert outcome.status == 1
