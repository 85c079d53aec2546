"""`ls -l` and `disk ls` show where symbolic links lead, in images that other people's tools made."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.disk.media import FaultInjecting, ImageFile
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.system import System, SystemOptions
from callgate.tools.inspection.volumes import ImageVolumes, VolumeError

LINKS = {
    "file": b"docs/A.TXT",
    "directory": b"docs",
    "up": b"docs/../docs/A.TXT",
    "absolute": b"/docs/A.TXT",
    "nowhere": b"no/such/file",
    "words": "grüße/日本".encode(),
    "escape": b"a\x1b[31mb\x7fc\xc2\x9bd",
    "59": b"f" * 59,  # the longest that an ext inode holds
    "60": b"s" * 60,
    "long": b"/".join([b"n" * 60] * 3),  # genisoimage never ends with one of 900 bytes
}
Command = Callable[..., Any]
NO_TEXT = b"not\xffUTF-8"
TOOLS = {
    "ext2": ["mke2fs", "-q", "-t", "ext2", "-b", "1024", "-d", "{folder}", "{image}", "2M"],
    "ext4": ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", "{folder}", "{image}", "8M"],
    "iso9660": ["genisoimage", "-quiet", "-R", "-o", "{image}", "{folder}"],
    "zip": ["zip", "-qry", "{image}", "."],
}
if shutil.which("xorriso"):
    TOOLS["iso9660 by xorriso"] = ["xorriso", "-as", "mkisofs", "-quiet", "-o", "{image}", "{folder}"]


def link(path: Path, target: bytes) -> None:
    path.symlink_to(os.fsdecode(target))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "A.TXT").write_text("text\n")
    (folder / "docs" / "inner").symlink_to("../docs/A.TXT")
    for name, target in LINKS.items():
        link(folder / name, target)
    return folder


@pytest.fixture
def make(tmp_path: Path, folder: Path, host_tool: Callable[..., str]) -> Callable[[str], Path]:
    def run(kind: str) -> Path:
        image = tmp_path / "links.img.zip"
        program, *options = (word.format(folder=folder, image=image) for word in TOOLS[kind])
        host_tool(program, *options, folder=folder)
        return image

    return run


def arrows(text: str) -> dict[str, str]:
    """Return the targets that `ls -l` has printed."""
    lines = [line.split(" -> ") for line in text.splitlines() if line.startswith("l") and " -> " in line]
    return {line[0].rpartition(" ")[2]: line[1] for line in lines}


@pytest.mark.parametrize("kind", TOOLS)
def test_ls_shows_link_targets_as_the_tools_have_stored_them(
    command_line: Command, make: Callable[[str], Path], kind: str
) -> None:
    image = make(kind)
    outcome = command_line("boot", "-q", image, "-c", "ls -l; ls -l file nowhere docs; cd docs; ls -l inner")
    assert outcome.status == 0
    text = outcome.stdout.decode()
    shown = {**LINKS, "escape": b"a?[31mb?c?d", "inner": b"../docs/A.TXT"}
    assert {name: target.encode() for name, target in arrows(text).items()} == shown
    assert text.count(" inner -> ../docs/A.TXT\n") == 2
    assert text.count(" nowhere -> no/such/file\n") == 2, "a link that leads nowhere can be listed"


def test_a_link_to_a_name_that_is_too_long_can_be_listed_by_its_own_name(
    command_line: Command, folder: Path, make: Callable[[str], Path]
) -> None:
    long = "n" * 300
    link(folder / "far", long.encode())
    outcome = command_line("boot", "-q", make("ext2"), "-c", f"ls -l far; ls -l {long}")
    text = outcome.stdout.decode()
    assert arrows(text) == {"far": long}
    assert f"ls: {long}: name too long\n" in text, "nothing has that name"


@pytest.mark.parametrize("kind", TOOLS)
def test_the_target_of_a_link_is_requested_by_the_path_of_the_link(make: Callable[[str], Path], kind: str) -> None:
    with ImageVolumes(make(kind)) as volumes:
        (volume,) = volumes.volumes.values()
        assert {name: volume.link_target(name).encode() for name in LINKS} == LINKS
        assert volume.link_target("directory/inner") == "../docs/A.TXT", "links before the last name are followed"
        for path in ("docs", "docs/A.TXT", "directory/", "directory/A.TXT", ""):
            with pytest.raises(VolumeError) as caught:
                volume.link_target(path)
            assert caught.value.code is ErrorCode.BAD_ARGUMENT, path
        with pytest.raises(VolumeError, match="no such file"):
            volume.link_target("directory/none")


@pytest.mark.parametrize("kind", TOOLS)
def test_the_targets_of_several_links_are_those_that_each_has_alone(make: Callable[[str], Path], kind: str) -> None:
    with ImageVolumes(make(kind)) as volumes:
        (volume,) = volumes.volumes.values()
        ask = volume.walk.rehearsal.request

        def told(directory: str, *names: str) -> list[bytes]:
            data, found = ask(Operation.READ_LINKS, "\0".join((directory, *names)).encode()).data, list[bytes]()
            while data:
                size = int.from_bytes(data[:2], "little")
                found.append(data[2 : 2 + size])
                data = data[2 + size :]
            return found

        assert told("", *LINKS) == list(LINKS.values())
        assert told("docs", "A.TXT", "none", "inner", "") == [b"", b"", b"../docs/A.TXT", b""]
        assert told("directory", "inner") == [b"../docs/A.TXT"], "links before the names are followed"
        assert told("nowhere", "inner") == [b""]
        assert told("", *["file"] * 40) == [LINKS["file"]] * 32
        assert ask(Operation.READ_LINKS, b"docs").error is ErrorCode.BAD_ARGUMENT


def test_targets_that_do_not_fit_into_one_answer_are_left_out(folder: Path, make: Callable[[str], Path]) -> None:
    for number in range(5):
        link(folder / f"wide{number}", b"/".join([b"x" * 99] * 10))
    link(folder / "widest", b"/".join([b"x" * 99] * 40) + b"/" + b"y" * 47)
    with ImageVolumes(make("ext4")) as volumes:
        (volume,) = volumes.volumes.values()
        ask = volume.walk.rehearsal.request
        several = ask(Operation.READ_LINKS, b"\0".join([b"", *(b"wide%d" % number for number in range(5))])).data
        assert len(several) == 4 * (2 + 999)
        assert len(ask(Operation.READ_LINK, b"widest").data) == 4047, "as long as a message, but for a byte"
        assert ask(Operation.READ_LINKS, b"\0widest\0file").data == b"\0\0" + b"\x0a\0docs/A.TXT"


def test_disk_ls_shows_control_characters_of_link_targets_as_escapes(
    make: Callable[[str], Path], command_line: Command
) -> None:
    image = make("ext4")
    outcome = command_line("disk", "ls", image)
    assert (outcome.status, outcome.messages) == (0, "")
    shown = arrows(outcome.stdout.decode())
    assert shown["escape"] == "a\\x1b[31mb\\x7fc\\x9bd"
    assert (shown["words"], shown["nowhere"]) == ("grüße/日本", "no/such/file")
    listed = json.loads(command_line("disk", "ls", f"{image}:", "--json").stdout)["entries"]
    targets = {entry["name"]: entry["target"].encode() for entry in listed if entry["type"] == "link"}
    assert targets == LINKS
    assert all("target" not in entry for entry in listed if entry["type"] != "link")


def test_a_link_target_that_is_not_text_is_shown_as_names_are(
    command_line: Command, folder: Path, make: Callable[[str], Path]
) -> None:
    link(folder / "bytes", NO_TEXT)
    outcome = command_line("boot", "-q", make("ext2"), "-c", "ls -l bytes")
    assert arrows(outcome.stdout.decode()) == {"bytes": "not%FFUTF-8"}


def test_a_link_target_too_long_for_a_message_is_reported_and_its_link_shown(
    folder: Path, make: Callable[[str], Path], command_line: Command
) -> None:
    link(folder / "huge", b"/".join([b"x" * 100] * 40) + b"/" + b"y" * 20)
    image = make("ext4")
    outcome = command_line("boot", "-q", image, "-c", "ls -l huge file")
    assert outcome.status == 1
    lines = outcome.stdout.decode().splitlines()
    assert [lines[0].endswith(" huge"), lines[1]] == [True, "ls: /d0/huge: name too long"]
    assert lines[2].endswith(" file -> docs/A.TXT")
    outcome = command_line("disk", "ls", f"{image}:huge")
    assert outcome.stdout.endswith(b" huge\n")
    assert outcome.messages == "callgate: huge: name too long\n"


def test_a_link_whose_block_cannot_be_read_is_reported(make: Callable[[str], Path]) -> None:
    image, output = make("ext2"), list[bytes]()
    sector = image.read_bytes().index(LINKS["long"]) // 512
    options = SystemOptions(commands="ls -l", output=output.append)
    with System([FaultInjecting(ImageFile(image), bad=[sector])], options) as system:
        system.run(fuel=100_000_000)
    text = b"".join(output).decode()
    assert " long\nls: /d0/long: disk error\n" in text
    assert {*arrows(text)} == {*LINKS} - {"long"}
    assert system.exit_code == 1


@pytest.mark.parametrize("kind", ["fat12", "exfat"])
def test_a_server_without_links_does_not_implement_read_link(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "A.TXT").write_text("text\n")
    create_image(tmp_path / "x.img", tmp_path / "files", fs=kind)
    with ImageVolumes(tmp_path / "x.img") as volumes:
        (volume,) = volumes.volumes.values()
        for number, data in ((Operation.READ_LINK, b"A.TXT"), (Operation.READ_LINKS, b"\0A.TXT")):
            assert volume.walk.rehearsal.request(number, data).error is ErrorCode.BAD_CALL
        with pytest.raises(VolumeError) as caught:
            volume.link_target("A.TXT")
        assert caught.value.code is ErrorCode.NOT_SUPPORTED
