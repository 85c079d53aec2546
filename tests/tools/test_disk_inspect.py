"""`callgate disk inspect` says of a volume what a booted system says of it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.tools.fuzz_kinds import KINDS, Kind
from callgate.tools.fuzz_volumes import sound_image

CommandLine = Callable[..., Any]
SPLIT = "a part of a split ZIP archive; join the parts (zip -s 0 in.zip --out out.zip)"


def inspected(command_line: CommandLine, image: Path) -> dict[str, Any]:
    """Return the only volume of an image."""
    outcome = command_line("disk", "inspect", image, "--json")
    assert outcome.status == 0, outcome.messages
    (volume,) = json.loads(outcome.stdout)["volumes"]
    return dict(volume)


@pytest.mark.thorough(one_in=2)
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


def test_what_a_server_refuses_is_said_as_the_boot_log_says_it(command_line: CommandLine, tmp_path: Path) -> None:
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


def test_noise_is_an_unknown_file_system(command_line: CommandLine, tmp_path: Path) -> None:
    image = tmp_path / "noise.img"
    image.write_bytes(b"noise" * 2000)
    outcome = command_line("disk", "inspect", image)
    assert outcome.stdout.decode().splitlines()[2:3] == ["    unknown file system"]
