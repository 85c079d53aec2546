"""Media: what an image must be, reading straight into memory, faults, copy on write, the demo image."""

import os
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.demo import demo_image
from callgate.disk.images.demo_making import build_demo, demo_content
from callgate.disk.media import (
    FaultInjecting,
    ImageError,
    ImageFile,
    MediumError,
    MediumRemovedError,
    MemoryMedium,
    Overlay,
)
from callgate.tools.inspection.report import inspect_image

MIB = 1 << 20


def read(medium: Any, lba: int, sectors: int) -> bytes:
    buffer = bytearray(sectors * 512)
    medium.read_into(lba, [memoryview(buffer)])
    return bytes(buffer)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(os.urandom(64 * 512))
    return path


def test_an_image_is_read_into_scattered_memory(image: Path) -> None:
    ram = bytearray(8192)
    view = memoryview(ram)
    ImageFile(image).read_into(3, [view[7:1000], view[2000:2031], view[5000:5512]])
    content = image.read_bytes()[1536:]
    assert bytes(ram[7:1000]) == content[:993]
    assert bytes(ram[2000:2031]) == content[993:1024]
    assert bytes(ram[5000:5512]) == content[1024:1536]
    assert not any(ram[:7] + ram[1000:2000] + ram[2031:5000] + ram[5512:])


def test_more_regions_than_the_host_takes_at_once_are_read(image: Path) -> None:
    ram = bytearray(32768)
    view = memoryview(ram)
    ImageFile(image).read_into(0, [view[at : at + 8] for at in range(0, 32768, 8)])
    assert bytes(ram) == image.read_bytes()


@pytest.mark.parametrize("make", ["missing", "directory", "empty", "short", "pipe", "below a file", "loop"])
def test_a_file_that_is_not_an_image_is_refused_with_its_name_and_the_reason(tmp_path: Path, make: str) -> None:
    path = tmp_path / "x.img"
    if make == "directory":
        path.mkdir()
    elif make == "empty":
        path.touch()
    elif make == "short":
        path.write_bytes(b"abc")
    elif make == "pipe":
        os.mkfifo(path)
    elif make == "loop":
        path.symlink_to(path)
    elif make == "below a file":
        path.touch()
        path = path / "y.img"
    reasons = {
        "missing": "there is no such file",
        "directory": "is a directory, not a disk image; make an image of it: callgate disk create",
        "empty": "is empty",
        "short": "is 3 bytes long, shorter than one sector",
        "pipe": "is not a regular file",
        "below a file": "cannot be opened: Not a directory",
        "loop": "cannot be opened: Too many levels of symbolic links",
    }
    with pytest.raises(ImageError) as caught:
        ImageFile(path)
    assert str(caught.value).startswith(f"{path}: {reasons[make]}")
    assert caught.value.path == str(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_image_is_refused(image: Path) -> None:
    image.chmod(0)
    with pytest.raises(ImageError, match="may not be read; check its permissions"):
        ImageFile(image)


def test_an_image_that_may_not_be_read_is_refused_with_that_reason(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ImageError, match="may not be read; check its permissions"):
        ImageFile(image)


def test_a_ragged_end_is_padded_with_zeros_and_warned_about(tmp_path: Path) -> None:
    path = tmp_path / "ragged.img"
    path.write_bytes(b"x" * 1000)
    medium = ImageFile(path)
    assert medium.sector_count == 2
    assert len(medium.warnings) == 1
    assert "last 488 bytes" in medium.warnings[0]
    assert read(medium, 1, 1) == b"x" * 488 + bytes(24)


def test_an_image_that_shrinks_while_in_use_is_a_medium_error(image: Path) -> None:
    medium = ImageFile(image)
    assert read(medium, 60, 4) == image.read_bytes()[60 * 512 :]
    os.truncate(image, 62 * 512 + 100)
    assert read(medium, 60, 2) == image.read_bytes()[60 * 512 : 62 * 512]
    with pytest.raises(MediumError, match="sector 62: the image has become shorter"):
        read(medium, 60, 4)
    with pytest.raises(MediumError, match="sector 63"):
        read(medium, 63, 1)


@pytest.mark.parametrize("lba", [-1, 63, 64, 1 << 60])
def test_nothing_outside_a_medium_is_read(image: Path, lba: int) -> None:
    for medium in (ImageFile(image), MemoryMedium(image.read_bytes()), Overlay(ImageFile(image))):
        with pytest.raises(MediumError, match="leave the medium of 64"):
            read(medium, lba, 2)


def test_an_image_is_never_written(image: Path) -> None:
    before = image.read_bytes()
    medium = ImageFile(image)
    assert medium.read_only
    with pytest.raises(MediumError, match="Read-only"):
        medium.write_from(0, [memoryview(bytes(512))])
    overlay = Overlay(medium)
    overlay.write_from(5, [memoryview(b"a" * 300), memoryview(b"b" * 724)])
    assert read(overlay, 4, 4) == before[2048:2560] + b"a" * 300 + b"b" * 724 + before[3584:4096]
    overlay.flush()
    overlay.close()
    assert image.read_bytes() == before
    with pytest.raises(MediumError):
        read(medium, 0, 1)


def test_an_overlay_cannot_grow_its_medium(image: Path) -> None:
    overlay = Overlay(ImageFile(image))
    with pytest.raises(MediumError, match="leave the medium"):
        overlay.write_from(63, [memoryview(bytes(1024))])
    assert overlay.written == {}


def test_injected_faults_occur_at_the_given_place_and_time() -> None:
    now = 0
    medium = FaultInjecting(
        MemoryMedium(bytes(20 * 512)), bad=[7], removed_at=100, clock=lambda: now, slow={3: 9, 4: 5}
    )
    assert read(medium, 0, 7) == bytes(7 * 512)
    with pytest.raises(MediumError, match="sector 7: unrecoverable"):
        read(medium, 5, 4)
    assert [medium.delay(lba, 2) for lba in (1, 2, 3, 4, 5)] == [0, 9, 9, 5, 0]
    now = 100
    with pytest.raises(MediumRemovedError):
        read(medium, 0, 1)
    medium = FaultInjecting(MemoryMedium(bytes(512)), removed_after=2)
    read(medium, 0, 1)
    read(medium, 0, 1)
    with pytest.raises(MediumRemovedError):
        read(medium, 0, 1)
    with pytest.raises(ValueError, match="clock"):
        FaultInjecting(MemoryMedium(b""), removed_at=5)


# The demo image.


def test_the_demo_image_is_made_once_and_rebuilt_when_damaged(tmp_path: Path) -> None:
    path = demo_image(tmp_path)
    content = path.read_bytes()
    made = path.stat().st_ino
    assert demo_image(tmp_path) == path
    assert path.stat().st_ino == made
    for damage in (b"", content[:-512], bytes(512) + content[512:]):
        path.write_bytes(damage)
        assert demo_image(tmp_path) == path
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path], "nothing else is left"


def test_the_demo_image_is_sparse_and_has_two_volumes(tmp_path: Path) -> None:
    path = demo_image(tmp_path)
    assert path.stat().st_blocks * 512 < 8 * MIB
    found = inspect_image(path)
    assert found.problems == []
    assert [(v.partition.number, v.file_system.kind, v.file_system.label) for v in found.volumes] == [
        (1, "fat16", "DEMO"),
        (2, "fat32", "SECOND"),
    ]
    assert [volume.file_system.problems for volume in found.volumes] == [[], []]


def test_other_tools_find_the_demo_image_clean_and_complete(tmp_path: Path, tool: Any) -> None:
    path = demo_image(tmp_path)
    found = inspect_image(path)
    for volume, nodes in zip(found.volumes, demo_content(), strict=True):
        start, length = volume.partition.start * 512, volume.partition.sectors * 512
        part = tmp_path / "part"
        part.write_bytes(path.read_bytes()[start : start + length])
        tool("fsck.fat", "-n", part)
        back = tmp_path / f"back{volume.partition.number}"
        back.mkdir()
        tool("mcopy", "-s", "-n", "-i", f"{path}@@{start}", "::*", back)
        compare(nodes, back)


def compare(nodes: Any, folder: Path) -> None:
    assert {node.name for node in nodes} == {path.name for path in folder.iterdir()}
    for node in nodes:
        if node.directory:
            compare(node.children, folder / node.name)
        else:
            assert (folder / node.name).read_bytes() == node.content


def test_the_demo_image_can_be_made_without_a_writable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "elsewhere"))
    path = demo_image(blocked / "cache")
    assert path.is_relative_to(tmp_path / "elsewhere")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(blocked))
    with pytest.raises(ImageError, match="the demo image cannot be written: Not a directory; set XDG_CACHE_HOME"):
        demo_image(blocked / "cache")


def test_a_demo_build_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("callgate.disk.images.demo_making.boot_record", fail)
    with pytest.raises(OSError, match="No space"):
        build_demo(tmp_path / "demo.img")
    assert list(tmp_path.iterdir()) == []
