"""Superblocks: what is refused and in which words, what is mounted all the same, and backups."""

import re
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import MountError
from callgate.server.ext2.server import Ext2Server
from callgate.server.fat.server import FatServer

SUPERBLOCK = 1024


@pytest.fixture(params=["-t ext2 -b 1024", "-t ext4 -b 1024", "-t ext4 -b 2048"])
def image(request: pytest.FixtureRequest, ext_image: Callable[[], Any]) -> Any:
    image = ext_image()
    (image.folder / "file").write_bytes(b"text\n")
    return image.format("9M" if "1024" in request.param else "40M", *request.param.split())


def word(image: bytearray, offset: int, size: int = 4) -> int:
    return int.from_bytes(image[SUPERBLOCK + offset : SUPERBLOCK + offset + size], "little")


def put(image: bytearray, offset: int, value: int, size: int = 4) -> None:
    image[SUPERBLOCK + offset : SUPERBLOCK + offset + size] = value.to_bytes(size, "little")


def without_backups(image: bytearray) -> bytearray:
    """Wipe the magic numbers of all superblocks but the first."""
    for place in range(2048, len(image), 1024):
        if image[place + 56 : place + 58] == b"\x53\xef":
            image[place + 56 : place + 58] = b"\0\0"
    return image


class TestFeatures:
    @pytest.mark.parametrize("feature", ["inline_data", "encrypt", "casefold"])
    def test_unknown_features_are_refused_by_the_names_of_mke2fs(
        self, feature: str, ext_image: Callable[[], Any], ext_client: Any
    ) -> None:
        image = ext_image().format("4M", "-t", "ext4", "-O", feature)
        with pytest.raises(
            MountError, match=f"^superblock: needs feature {feature}, which callgate does not know$"
        ) as caught:
            ext_client(image.view())
        assert caught.value.code is ErrorCode.NOT_SUPPORTED

    def test_the_journal_device_of_another_volume_is_named(self, ext_image: Callable[[], Any], ext_client: Any) -> None:
        image = ext_image().format("4M", "-O", "journal_dev")
        with pytest.raises(MountError, match=r"^superblock: this is the journal of another volume"):
            ext_client(image.view())

    @pytest.mark.thorough(one_in=2)
    @pytest.mark.parametrize(
        ("bits", "names"), [(0x1, "compression"), (0x8, "journal_dev"), (0x1000, "dirdata"), (0x8008_0000, "I19, I31")]
    )
    def test_features_that_no_tool_makes_are_refused(self, image: Any, ext_client: Any, bits: int, names: str) -> None:
        raw = image.read()
        put(raw, 0x60, word(raw, 0x60) | bits)
        with pytest.raises(MountError, match=f"needs feature {names}, which callgate does not know"):
            ext_client(raw)
        assert Ext2Server.probe(bytes(raw[:65536])) == "ext4"

    def test_features_that_matter_only_to_writers_are_accepted(self, image: Any, ext_client: Any) -> None:
        raw = image.read()
        put(raw, 0x5C, word(raw, 0x5C) | 0xFFFF_F000)  # compatible
        put(raw, 0x64, word(raw, 0x64) | 0xFFFF_8000)  # read-only compatible
        assert ext_client(raw).contents("file") == b"text\n"

    def test_journals_that_were_not_replayed_are_reported(self, image: Any, ext_client: Any) -> None:
        raw = image.read()
        put(raw, 0x60, word(raw, 0x60) | 0x4)
        served = ext_client(raw)
        assert served.server.take_reports() == ["d0p1: journal not replayed: changes that only it holds are not seen"]
        assert served.contents("file") == b"text\n"
        assert served.request(Operation.VOLUME).registers.eax & VolumeFlags.DIRTY


class TestState:
    @pytest.mark.parametrize("state", [0, 2, 3])
    def test_a_volume_that_was_not_unmounted_or_has_errors_is_dirty(
        self, image: Any, ext_client: Any, state: int
    ) -> None:
        raw = image.read()
        put(raw, 0x3A, state, 2)
        served = ext_client(raw)
        assert served.request(Operation.VOLUME).registers.eax & VolumeFlags.DIRTY
        assert served.server.take_reports() == []

    def test_free_blocks_are_those_of_the_bitmaps_whatever_the_superblock_says(
        self, image: Any, ext_client: Any
    ) -> None:
        raw = image.read()
        free = word(raw, 12)
        put(raw, 12, 7)
        served = ext_client(raw)
        assert served.request(Operation.FREE_SPACE).registers.eax == free
        assert served.server.take_reports() == [
            f"d0p1: the superblock says 7 free blocks; the groups' bitmaps have {free}"
        ]
        assert served.request(Operation.VOLUME).registers.eax & VolumeFlags.DIRTY


ABSURD = {
    "s_rev_level": (76, 4, 2, "0 or 1"),
    "s_log_block_size": (24, 4, 7, "0 to 6"),
    "s_blocks_per_group": (32, 4, 0, "a multiple of 8, up to "),
    "s_inodes_per_group": (40, 4, 0, "1 to "),
    "s_inode_size": (88, 2, 96, "a power of 2, 128 to "),
    "s_first_data_block": (20, 4, 5, "1 with 1 KiB blocks, else 0"),
}


class TestAbsurdNumbers:
    @pytest.mark.thorough(one_in=3)
    @pytest.mark.parametrize("field", ABSURD)
    def test_absurd_numbers_in_the_superblock_are_named_with_their_place(
        self, image: Any, ext_client: Any, field: str
    ) -> None:
        raw = without_backups(image.read())
        offset, size, value, expected = ABSURD[field]
        put(raw, offset, value, size)
        text = f"superblock, offset {offset}: {field} is {value} ({value:#x}); expected {expected}"
        with pytest.raises(MountError, match="^" + re.escape(text)):
            ext_client(raw)
        assert Ext2Server.probe(bytes(raw[:65536])), "it says that it is one"

    @pytest.mark.thorough(one_in=3)
    @pytest.mark.parametrize("field", ABSURD)
    def test_absurd_numbers_in_the_superblock_are_replaced_by_those_of_the_backup(
        self, image: Any, ext_client: Any, field: str
    ) -> None:
        raw = image.read()
        offset, size, value, _ = ABSURD[field]
        put(raw, offset, value, size)
        served = ext_client(raw)
        assert served.contents("file") == b"text\n"
        (report,) = served.server.take_reports()
        sector = 8193 * 2 if len(raw) == 9 << 20 else 16384 * 4
        assert report.endswith(f"; the backup in sector {sector} is used instead")
        assert f": {field} is {value} " in report

    def test_absurd_numbers_in_the_superblock_cause_at_most_a_refusal(self, image: Any, ext_client: Any) -> None:
        raw = image.read()
        for offset, value in product((0, 4, 32, 36, 40), (1, 8, 0x7FFF_FFFF, 0xFFFF_FFF8, 0xFFFF_FFFF)):
            sound = word(raw, offset)
            put(raw, offset, value)
            with suppress(MountError):
                served = ext_client(raw)
                served.request(Operation.LOCK_DIRECTORY, "")
                served.request(Operation.OPEN, "file")
                assert len(served.rehearsal.calls) < 4000, (offset, value)
            put(raw, offset, sound)

    def test_a_truncated_ext_image_is_read_as_far_as_it_goes(self, image: Any, ext_client: Any) -> None:
        raw = image.read()
        half = raw[: len(raw) // 2]
        served = ext_client(half)
        assert served.contents("file") == b"text\n"
        size = 1024 << word(raw, 24)
        assert served.server.take_reports()[0] == (
            f"d0p1: the superblock says {len(raw) // size} blocks of {size} bytes, the partition holds "
            f"{len(half) // size} (a truncated image?): what lies beyond cannot be read"
        )


class TestProbe:
    def test_the_ext_probe_claims_nothing_without_a_superblock(self) -> None:
        for first in (b"", bytes(1023), bytes(1500), bytes(65536), b"\xff" * 65536):
            assert Ext2Server.probe(first) is None

    def test_the_ext_probe_does_not_claim_a_fat_whose_entries_look_like_the_magic_number(
        self, fat_image: Callable[..., Any]
    ) -> None:
        raw = fat_image(32_000, "-F", "16", "-s", "1", "-R", "1").read()
        raw[1024 + 56 : 1024 + 58] = b"\x53\xef"
        assert Ext2Server.probe(bytes(raw[:65536])) is None
        assert FatServer.probe(bytes(raw[:65536])) == "fat16"
        raw[510:512] = bytes(2)  # as early DOS made them: nothing but the jump says that it is a boot sector
        assert Ext2Server.probe(bytes(raw[:65536])) is None
        assert FatServer.probe(bytes(raw[:65536])) == "fat16"

    def test_the_ext_probe_claims_a_volume_with_a_boot_loader_in_front(self, image: Any) -> None:
        raw = image.read()
        raw[0:3], raw[510:512] = b"\xeb\x3c\x90", b"\x55\xaa"
        assert Ext2Server.probe(bytes(raw[:65536])) in {"ext2", "ext4"}

    def test_the_ext_probe_refuses_a_partition_that_ends_before_the_superblock(
        self, image: Any, ext_client: Any
    ) -> None:
        with pytest.raises(MountError, match="the partition of 3 sectors ends before it"):
            ext_client(image.read()[:1536])


def test_a_root_inode_that_is_not_a_directory_is_refused(image: Any, ext_client: Any) -> None:
    image.change("set_inode_field <2> mode 0100644")
    with pytest.raises(MountError, match="root directory: inode 2 is not a directory"):
        ext_client(image.view())
    image.change("set_inode_field <2> links_count 0")
    with pytest.raises(MountError, match="root directory: inode 2 is free and has a name"):
        ext_client(image.view())
