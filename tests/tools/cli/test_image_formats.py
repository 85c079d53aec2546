"""Images of other kinds at the command line: read like the raw one, or named; and from a pipe."""

import gzip
import io
import json
import os
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import container_files
import pytest
from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageError, open_image, spool

EXIT_USAGE, EXIT_IMAGE = 2, 5
MIB = 1 << 20

CommandLine = Callable[..., Any]


@pytest.fixture
def disk(tmp_path: Path) -> bytes:
    """Return a small FAT12 volume with a file."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "HELLO.TXT").write_text("hello\n")
    create_image(tmp_path / "raw.img", tmp_path / "files", fs="fat12", size=40 << 10)
    return (tmp_path / "raw.img").read_bytes()


def stored(disk: bytes, unit: int) -> dict[int, bytes]:
    """Return the blocks of a disk that are not zeros."""
    blocks = {at // unit: disk[at : at + unit] for at in range(0, len(disk), unit)}
    return {number: block.ljust(unit, b"\0") for number, block in blocks.items() if any(block)}


FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "VHD": lambda disk: container_files.vhd(len(disk), stored(disk, container_files.VHD_BLOCK)),
    "VMDK": lambda disk: container_files.vmdk(len(disk), stored(disk, 8192)),
    "gzip, VDI": lambda disk: gzip.compress(container_files.vdi(len(disk), {0: disk})),
}


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("name", FORMATS)
def test_an_image_of_another_format_boots_and_is_inspected_as_the_raw_one(
    command_line: CommandLine, tmp_path: Path, disk: bytes, name: str
) -> None:
    (tmp_path / "other.img").write_bytes(FORMATS[name](disk))
    outcome = command_line("boot", "other.img", "-c", "cat HELLO.TXT")
    assert (outcome.status, outcome.stdout) == (0, b"hello\n")
    assert outcome.messages.startswith(f"callgate: d0: image other.img ({name})\ncallgate: d0: 80 sectors")
    raw, other = (command_line("disk", "inspect", path).stdout.decode() for path in ("raw.img", "other.img"))
    assert other == raw.replace("raw.img: ", f"other.img: {name}, ")
    plain, found = (
        json.loads(command_line("disk", "inspect", path, "--json").stdout) for path in ("raw.img", "other.img")
    )
    assert (plain["format"], found["format"]) == ("raw", name)
    assert found["volumes"] == plain["volumes"]


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("name", FORMATS)
def test_files_of_an_image_of_another_format_are_listed_and_copied(
    command_line: CommandLine, tmp_path: Path, disk: bytes, name: str
) -> None:
    (tmp_path / "other.img").write_bytes(FORMATS[name](disk))
    raw, other = (command_line("disk", "ls", path) for path in ("raw.img", "other.img"))
    assert raw.stdout.endswith(b" HELLO.TXT\n")
    assert (other.status, other.stdout, other.messages) == (0, raw.stdout, "")
    outcome = command_line("disk", "copy", "other.img:HELLO.TXT", "raw.img:HELLO.TXT", "-")
    assert (outcome.status, outcome.stdout, outcome.messages) == (0, b"hello\nhello\n", "")


def test_a_container_that_cannot_be_read_ends_the_command_with_its_reason(
    command_line: CommandLine, tmp_path: Path
) -> None:
    data = container_files.qcow2(1024, {})
    struct.pack_into(">I", data, 32, 1)
    (tmp_path / "x.qcow2").write_bytes(data)
    for arguments in (
        ["boot", "x.qcow2", "-c", "ls"],
        ["disk", "inspect", "x.qcow2"],
        ["disk", "copy", "x.qcow2:", "out"],
        ["disk", "ls", "x.qcow2"],
        ["fuzz", "images", "--image", "x.qcow2"],
    ):
        outcome = command_line(*arguments)
        assert (outcome.status, outcome.stdout) == (EXIT_IMAGE, b"")
        assert outcome.messages == (
            "callgate: x.qcow2: is a qcow2 image with AES encryption, which is not read; "
            "convert it: qemu-img convert -O raw IMAGE OUT\n"
        )


def with_table(*volumes: tuple[int, bytes]) -> bytes:
    """Return a disk with an MBR and a volume of 64 KiB in each partition."""
    disk = bytearray(64 << 10)
    for number, (kind, volume) in enumerate(volumes):
        struct.pack_into("<BBBBBBBBII", disk, 446 + number * 16, 0, 0, 0, 0, kind, 0, 0, 0, len(disk) // 512, 128)
        disk += volume.ljust(64 << 10, b"\0")
    disk[510:512] = b"\x55\xaa"
    return bytes(disk)


def test_a_partition_that_no_server_knows_is_named_in_the_log_and_in_the_inspection(
    command_line: CommandLine, tmp_path: Path, disk: bytes
) -> None:
    swap = bytes(4086) + b"SWAPSPACE2"
    (tmp_path / "x.img").write_bytes(with_table((0x83, b"XFSB\0\0\x10\0"), (0x82, swap), (1, disk), (0x83, b"nothing")))
    outcome = command_line("boot", "x.img", "-c", "cat /d0p3/HELLO.TXT")
    assert (outcome.status, outcome.stdout) == (0, b"hello\n")
    hint = "mount it elsewhere and make an image of its files: callgate disk create OUT --from DIR"
    assert f"callgate: d0p1: an XFS file system, which no server reads, skipped; {hint}\n" in outcome.messages
    assert "callgate: d0p2: swap space of Linux, no volume, skipped\n" in outcome.messages
    assert "callgate: d0p4: no file system that a server knows, skipped\n" in outcome.messages
    volumes = json.loads(command_line("disk", "inspect", "x.img", "--json").stdout)["volumes"]
    assert [volume["file_system"]["kind"] for volume in volumes] == ["xfs", "swap", "fat12", ""]
    assert volumes[0]["file_system"]["problems"] == [f"an XFS file system, which no server reads; {hint}"]
    assert volumes[0]["alignment"] is None
    text = command_line("disk", "inspect", "x.img").stdout.decode()
    assert f"\n    xfs\n    problem: an XFS file system, which no server reads; {hint}\n" in text


def test_a_disc_that_is_also_udf_is_reported_in_the_log_and_in_the_inspection(
    command_line: CommandLine, tmp_path: Path, host_tool: Callable[..., str]
) -> None:
    (tmp_path / "disc").mkdir()
    (tmp_path / "disc" / "hidden.txt").write_text("only in UDF\n")
    said = "the disc is also a UDF volume, which is not read: what only UDF shows is missing"
    for options, times in (["-udf", "-hide", "hidden.txt"], 1), ([], 0):
        host_tool("genisoimage", "-quiet", *options, "-o", tmp_path / "x.iso", tmp_path / "disc")
        outcome = command_line("boot", "x.iso", "-c", "ls")
        assert outcome.status == 0
        assert outcome.stdout == (b"" if times else b"HIDDEN.TXT\n")
        assert outcome.messages.count(f"callgate: d0: {said}\n") == times
        volume = json.loads(command_line("disk", "inspect", "x.iso", "--json").stdout)["volumes"][0]
        assert volume["file_system"]["problems"] == [said] * times


def test_a_boot_sector_of_an_unsupported_format_is_not_called_empty(command_line: CommandLine, tmp_path: Path) -> None:
    sector = b"\xeb\x58\x90-FVE-FS-".ljust(510, b"\0") + b"\x55\xaa"
    (tmp_path / "x.img").write_bytes(sector + bytes(8192))
    outcome = command_line("boot", "x.img", "-c", "ls")
    assert outcome.status == EXIT_IMAGE
    assert "without a file system" not in outcome.messages
    hint = "open it and copy what is in it: cryptsetup bitlkOpen"
    assert f"callgate: d0: a BitLocker volume, which is encrypted, skipped; {hint}\n" in outcome.messages


# Standard input.


class Input(io.StringIO):
    """Standard input that is a file descriptor."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.fd = fd

    def fileno(self) -> int:
        return self.fd


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[bytes], None]]:
    """Have standard input be a pipe with given bytes."""
    threads = []
    reader, writer = os.pipe()
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    def fill(data: bytes) -> None:
        def write() -> None:
            with os.fdopen(writer, "wb") as file:
                file.write(data)

        threads.append(threading.Thread(target=write))
        threads[0].start()
        monkeypatch.setattr("sys.stdin", Input(reader))

    yield fill
    os.close(reader)
    for thread in threads:
        thread.join()
    assert list(folder.iterdir()) == [], "a temporary file has a name"


def test_an_image_comes_through_a_pipe(pipe: Callable[[bytes], None], disk: bytes) -> None:
    pipe(disk + bytes(3 * MIB))
    image = open_image(Path("-"))
    assert (str(image.path), image.format, image.sector_count) == ("standard input", "raw", (40 << 10) // 512 + 6144)
    buffer = bytearray(len(disk))
    image.read_into(0, [memoryview(buffer)])
    assert buffer == disk
    image.close()


def test_an_image_that_comes_through_a_pipe_may_be_compressed(pipe: Callable[[bytes], None], disk: bytes) -> None:
    pipe(gzip.compress(disk))
    image = open_image(Path("-"))
    assert (image.format, image.sector_count) == ("gzip", 80)
    image.close()


def test_an_endless_stream_as_an_image_is_refused(
    pipe: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "LIMIT", 1 << 16)
    pipe(bytes((1 << 16) + 1))
    with pytest.raises(ImageError, match="standard input: has more than 0 GiB; put it into a file and name that"):
        open_image(Path("-"))


def test_an_empty_pipe_is_an_empty_image(pipe: Callable[[bytes], None]) -> None:
    pipe(b"")
    with pytest.raises(ImageError, match="standard input: is empty; a disk image is a multiple of 512 bytes"):
        open_image(Path("-"))


def test_a_file_as_standard_input_is_not_copied(tmp_path: Path, disk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "spool", None)
    with (tmp_path / "raw.img").open("rb") as file:
        monkeypatch.setattr("sys.stdin", Input(file.fileno()))
        image = open_image(Path("-"))
        assert image.sector_count == len(disk) // 512
        image.close()


def test_a_terminal_as_an_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    monkeypatch.setattr("sys.stdin", Input(slave))
    with pytest.raises(ImageError, match="standard input: is a terminal; pipe an image into it, or name a file"):
        open_image(Path("-"))
    os.close(master)
    os.close(slave)


def test_commands_run_on_an_image_from_standard_input(host_line: Callable[[str], Any], disk: bytes) -> None:
    outcome = host_line("cat raw.img | callgate boot - -c 'cat HELLO.TXT'")
    assert (outcome.status, outcome.stdout) == (0, b"hello\n")
    assert outcome.messages.startswith("callgate: d0: image standard input\n")
    outcome = host_line("callgate disk inspect - < raw.img")
    assert (outcome.status, outcome.messages) == (0, "")
    assert outcome.stdout.startswith(b"standard input: 80 sectors (40 KiB), no partition table\n")


def test_files_of_an_image_from_standard_input_are_listed_and_copied(
    host_line: Callable[[str], Any], disk: bytes
) -> None:
    outcome = host_line("gzip < raw.img | callgate disk copy -:HELLO.TXT -:HELLO.TXT -")
    assert (outcome.status, outcome.stdout, outcome.messages) == (0, b"hello\nhello\n", "")
    outcome = host_line("callgate disk ls - --json < raw.img")
    assert json.loads(outcome.stdout)["image"] == "standard input"
    assert [entry["name"] for entry in json.loads(outcome.stdout)["entries"]] == ["HELLO.TXT"]


# Nothing is written over an image, in how many files it may be.


@pytest.fixture
def extents(tmp_path: Path, disk: bytes) -> Path:
    """Return a VMDK descriptor beside the file with the disk, whose name an image holds too."""
    (tmp_path / "d.vmdk").write_text(f'# Disk DescriptorFile\nRW {len(disk) // 512} FLAT "HELLO.TXT" 0\n')
    (tmp_path / "HELLO.TXT").write_bytes(disk)
    return Path("d.vmdk")


@pytest.mark.parametrize(
    ("option", "written"),
    [("--trace", "d.vmdk"), ("--trace", "HELLO.TXT"), ("--stats", "packed.gz"), ("--stats", "raw.img")],
)
def test_a_report_overwrites_no_file_of_an_image(
    host_line: Callable[[str], Any], extents: Path, disk: bytes, option: str, written: str
) -> None:
    Path("packed.gz").write_bytes(gzip.compress(disk))
    before = Path(written).read_bytes()
    outcome = host_line(f"callgate boot -q {extents} packed.gz - -c true {option} {written} < raw.img")
    assert (outcome.status, outcome.stdout) == (EXIT_USAGE, b"")
    assert outcome.messages.startswith(f"callgate: {option} {written}: is ")
    assert Path(written).read_bytes() == before


def test_a_copy_replaces_no_file_of_an_image(command_line: CommandLine, extents: Path, disk: bytes) -> None:
    outcome = command_line("disk", "copy", "--force", f"{extents}:HELLO.TXT", ".")
    assert (outcome.status, outcome.messages) == (1, "callgate: HELLO.TXT: would replace an image that is read\n")
    outcome = command_line("disk", "copy", "--force", "raw.img:HELLO.TXT", f"{extents}:HELLO.TXT", ".")
    assert (outcome.status, outcome.messages) == (1, "callgate: HELLO.TXT: would replace an image that is read\n" * 2)
    assert Path("HELLO.TXT").read_bytes() == disk


def test_standard_input_cannot_be_the_image_and_the_console(command_line: CommandLine) -> None:
    outcome = command_line("boot", "-")
    assert (outcome.status, outcome.stdout) == (EXIT_USAGE, b"")
    assert outcome.messages == (
        "callgate: -: standard input is the image and cannot be the console too: give commands by -c, or name a file\n"
    )
    outcome = command_line("boot", "-", "-", "-c", "ls")
    assert outcome.status == EXIT_USAGE
    assert outcome.messages == "callgate: -: standard input is one image, and was named twice\n"


def test_a_file_whose_name_is_a_dash_is_named_with_its_directory(
    command_line: CommandLine, tmp_path: Path, disk: bytes
) -> None:
    (tmp_path / "-").write_bytes(disk)
    assert command_line("boot", "-q", "./-", "-c", "cat HELLO.TXT").stdout == b"hello\n"
