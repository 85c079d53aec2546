"""`callgate disk inspect` reports of a volume what a booted system reports of it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.media import FaultInjecting, MemoryMedium
from callgate.server.ext2.server import Ext2Server
from callgate.server.fat.server import FatServer
from callgate.tools.fuzz.kinds import KINDS, Kind
from callgate.tools.fuzz.volumes import sound_image
from callgate.tools.fuzz.witness import locked_sectors
from callgate.tools.inspection.report import inspect_medium
from callgate.tools.inspection.volume_walk import VolumeWalk

CommandLine = Callable[..., Any]
SPLIT = "a part of a split ZIP archive; join the parts (zip -s 0 in.zip --out out.zip)"


def inspected(command_line: CommandLine, image: Path) -> dict[str, Any]:
    """Return the only volume of an image."""
    outcome = command_line("disk", "inspect", image, "--json")
    assert outcome.status == 0, outcome.messages
    (volume,) = json.loads(outcome.stdout)["volumes"]
    return dict(volume)


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_system_is_called_what_its_server_calls_it(
    command_line: CommandLine, tmp_path: Path, kind: Kind
) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(sound_image(kind))
    volume = inspected(command_line, image)
    assert volume["file_system"]["kind"] == kind
    assert volume["file_system"]["problems"] == []


@pytest.mark.parametrize(
    ("options", "kind"),
    [(("-R", "-udf"), "rockridge"), (("-R", "-J", "-udf"), "rockridge"), (("-J", "-udf"), "joliet")],
)
def test_a_root_directory_is_looked_at_wherever_it_lies(
    command_line: CommandLine, tmp_path: Path, host_tool: Callable[..., str], options: tuple[str, ...], kind: str
) -> None:
    """UDF's structures stand before it, so that the first 64 KiB do not hold it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"a file\n")
    host_tool("genisoimage", "-quiet", "-V", "FAR", *options, "-o", tmp_path / "cd.iso", tmp_path / "folder")
    assert inspected(command_line, tmp_path / "cd.iso")["file_system"]["kind"] == kind
    booted = command_line("boot", "-q", tmp_path / "cd.iso", "-c", "vol")
    assert f"file system {kind}\n" in booted.stdout.decode()


def test_inspect_reports_a_refusal_in_the_words_of_the_boot_log(command_line: CommandLine, tmp_path: Path) -> None:
    image = tmp_path / "cut.zip"
    image.write_bytes(sound_image("zip")[:-1024])
    booted = command_line("boot", image, "-c", "ls")
    reason = re.search("/d0: server ended: (.*)\n", booted.messages)
    assert reason is not None, booted.messages
    volume = inspected(command_line, image)
    assert volume["file_system"] == {
        "kind": "zip", "label": "", "details": {}, "problems": [f"cannot be mounted: {reason[1]}"],
    }  # fmt: skip
    assert volume["alignment"] is None


def test_the_parts_of_a_split_archive_are_named(
    command_line: CommandLine, tmp_path: Path, host_tool: Callable[..., str]
) -> None:
    (tmp_path / "data").write_bytes(bytes(range(256)) * 1000)
    host_tool("zip", "-q", "-0", "-j", "-s", "64k", tmp_path / "a.zip", tmp_path / "data")
    first, last = (inspected(command_line, tmp_path / name)["file_system"] for name in ("a.z01", "a.zip"))
    assert (first["kind"], first["problems"]) == ("zip", [f"cannot be mounted: {SPLIT}"])
    assert (last["kind"], last["problems"]) == ("", [SPLIT])


def test_random_bytes_are_an_unknown_file_system(command_line: CommandLine, tmp_path: Path) -> None:
    image = tmp_path / "noise.img"
    image.write_bytes(b"noise" * 2000)
    outcome = command_line("disk", "inspect", image)
    assert outcome.stdout.decode().splitlines()[2:3] == ["    unknown file system"]


@pytest.mark.parametrize("label", ["PLAIN", "Größe 日本"])
def test_an_ext4_label_is_the_one_that_the_shell_shows(
    command_line: CommandLine, tmp_path: Path, host_tool: Callable[..., str], label: str
) -> None:
    image = tmp_path / "a.img"
    with image.open("wb") as file:
        file.truncate(4 << 20)
    host_tool("mke2fs", "-q", "-t", "ext4", "-L", label, image)
    assert inspected(command_line, image)["file_system"]["label"] == label
    assert f"label {label}\n" in command_line("boot", "-q", image, "-c", "vol").stdout.decode()
    assert f'ext4, label "{label}"\n' in command_line("disk", "inspect", image).stdout.decode()


def test_a_fat_label_is_the_root_directorys_and_not_the_boot_sectors(
    command_line: CommandLine, tmp_path: Path, host_tool: Callable[..., str]
) -> None:
    image = tmp_path / "a.img"
    host_tool("mkfs.fat", "-C", "-n", "BOOTLABEL", image, 1440)
    host_tool("mlabel", "-i", image, "::ROOTLABEL")
    content = bytearray(image.read_bytes())
    content[43:54] = b"BOOTLABEL  "
    image.write_bytes(content)
    assert inspected(command_line, image)["file_system"]["label"] == "ROOTLABEL"
    assert b"label ROOTLABEL\n" in command_line("boot", "-q", image, "-c", "vol").stdout


def log_of(outcome: Any) -> set[str]:
    """Return what the boot log has to say of the volume on the first disk, but that it is there."""
    lines = (line.removeprefix("callgate: d0: ") for line in outcome.messages.splitlines() if ": d0: " in line)
    return {line for line in lines if not re.match(r"image |\d+ sectors?, ", line)}


def damaged_fat(image: Path, host_tool: Callable[..., str]) -> None:
    """Make a volume on which a file's name is blank and a directory's cluster is none."""
    host_tool("mkfs.fat", "-C", image, 1440)
    host_tool("mmd", "-i", image, "::DIR")
    host_tool("mcopy", "-i", image, image.with_suffix(".txt"), "::BLANK.TXT")
    content = bytearray(image.read_bytes())
    blank, folder = content.index(b"BLANK   TXT"), content.index(b"DIR        ")
    content[blank : blank + 11] = b" " * 11
    content[folder + 26 : folder + 28] = b"\1\0"
    image.write_bytes(content)


def unfinished_ext4(image: Path, host_tool: Callable[..., str]) -> None:
    """Make a volume whose journal holds changes, and a directory whose block is garbage."""
    with image.open("wb") as file:
        file.truncate(8 << 20)
    host_tool("mke2fs", "-q", "-t", "ext4", image)
    host_tool("debugfs", "-w", "-R", "mkdir broken", image)
    host_tool("debugfs", "-w", "-R", "feature needs_recovery", image)
    block = int(host_tool("debugfs", "-R", "blocks broken", image).split()[0])
    content = bytearray(image.read_bytes())
    content[block * 1024 : block * 1024 + 1024] = b"\xff" * 1024
    image.write_bytes(content)


def miscounted_zip(image: Path, host_tool: Callable[..., str]) -> None:
    """Make an archive with more entries than its end record counts, one of them encrypted."""
    host_tool("zip", "-q", "-j", image, image.with_suffix(".txt"))
    (image.parent / "secret").write_text("secret\n")
    host_tool("zip", "-q", "-j", "-P", "secret", image, image.parent / "secret")
    content = bytearray(image.read_bytes())
    content[-14:-10] = b"\1\0\1\0"
    image.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            damaged_fat,
            ["directory / is damaged: record 1 has a blank name, left out", "directory DIR: its first cluster is 1, "],
        ),
        (unfinished_ext4, ["journal not replayed: ", "directory /broken is damaged: block 0, offset 0: a record of "]),
        (
            miscounted_zip,
            [
                "the end record counts 1 entries, the central directory has 2",
                "/secret cannot be opened: it is encrypted",
            ],
        ),
    ],
)
def test_problems_are_those_of_a_boot_that_reads_every_file(
    command_line: CommandLine,
    tmp_path: Path,
    host_tool: Callable[..., str],
    make: Callable[[Path, Callable[..., str]], None],
    said: list[str],
) -> None:
    image = tmp_path / "a.img"
    image.with_suffix(".txt").write_text("a file\n")
    make(image, host_tool)
    booted = command_line("boot", image, "-c", "ls; ls DIR; ls broken; cat *")
    problems = inspected(command_line, image)["file_system"]["problems"]
    assert set(problems) == log_of(booted)
    for text in said:
        assert any(text in problem for problem in problems), problems
    shown = command_line("disk", "inspect", image).stdout.decode()
    assert [line.strip() for line in shown.splitlines() if "problem: " in line] == [f"problem: {p}" for p in problems]


def test_bad_sectors_are_io_errors_of_the_files_in_them() -> None:
    image = sound_image("ext4")
    walk = VolumeWalk(Ext2Server, MemoryMedium(image))
    assert "docs/deeper" in {found.path for found in walk.entries(100)}
    sector = list(locked_sectors(walk.rehearsal))[-1]  # of the last directory
    (volume,) = inspect_medium(FaultInjecting(MemoryMedium(image), bad=[sector]), "x").volumes
    assert volume.alignment is not None
    assert any("disk error" in problem for problem in volume.file_system.problems), volume


def test_a_server_that_raises_is_a_problem_and_not_a_traceback(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(sound_image("fat16"))

    async def broken(self: FatServer, request: Any) -> Any:
        raise IndexError("on purpose")

    monkeypatch.setattr(FatServer, "open", broken)
    volume = inspected(command_line, image)
    (problem,) = volume["file_system"]["problems"]
    assert problem.startswith("its server raised IndexError: on purpose: ")
    assert problem.endswith('in broken: raise IndexError("on purpose")')
    assert (volume["file_system"]["kind"], volume["alignment"]) == ("fat16", None)
