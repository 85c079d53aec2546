"""`callgate fuzz images`: finds planted faults, prints how to repeat them, and finds none in our servers."""

import re
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.storage.cache import Cache
from callgate.server.errors import FileSystemError
from callgate.server.ext2.server import Ext2Server
from callgate.server.fat.server import FatServer
from callgate.tools.fuzz import images as fuzz_images
from callgate.tools.fuzz.damage import Damage
from callgate.tools.fuzz.kinds import KINDS, Kind
from callgate.tools.fuzz.volumes import sound_image

CommandLine = Callable[..., Any]
MUTANTS = 30  # of each kind; CI looks at more
REPORT = re.compile(
    rb"30 mutants: (\d+) refused, (\d+) read in part, (\d+) read in full, 0 findings; (\d+) files that were not"
)


@pytest.mark.thorough(one_in=6)
@pytest.mark.parametrize("fs", KINDS)
def test_many_damaged_images_do_no_harm(command_line: CommandLine, fs: str) -> None:
    outcome = command_line("fuzz", "images", "--fs", fs, "--count", str(MUTANTS))
    assert outcome.status == 0, outcome.stdout
    report = REPORT.search(outcome.stdout)
    assert report is not None, outcome.stdout
    refused, partly, full, witnesses = map(int, report.groups())
    assert refused + partly + full == MUTANTS
    assert min(partly, full, witnesses) > 0, "damage must be of all kinds"


@pytest.mark.thorough(one_in=6)
@pytest.mark.parametrize("fs", KINDS)
def test_damaged_images_that_are_booted_do_no_harm(command_line: CommandLine, fs: str) -> None:
    outcome = command_line("fuzz", "images", "--fs", fs, "--count", "2", "--seed", "1000", "--boot")
    assert (outcome.status, outcome.stderr) == (0, b""), outcome.stdout


@pytest.mark.thorough(one_in=6)
@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_for_fuzzing_is_the_same_whenever_it_is_made(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sound_image(kind)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert sound_image(kind) == first
    assert len(first) % 512 == 0


KEPT = {
    "README.TXT": (1000, 5),
    "A rather long file name.text": (2000, 30),
    "docs/note.txt": (3000, 10),
    "docs/deeper/LAST.BIN": (4000, 80),
}


DEBUGFS = ("debugfs", "-R", 'cat "{name}"', "{image}")


@pytest.mark.parametrize(
    ("kind", "reader"),
    [
        ("ext2", DEBUGFS),
        ("ext3", DEBUGFS),
        ("ext4", DEBUGFS),
        ("joliet", ("isoinfo", "-J", "-i", "{image}", "-x", "/{name}")),
        ("rockridge", ("isoinfo", "-R", "-i", "{image}", "-x", "/{name}")),
    ],
)
def test_the_stored_volumes_are_read_by_other_tools_with_the_same_result(
    kind: Kind, reader: tuple[str, ...], tmp_path: Path, host_tool: Callable[..., str]
) -> None:
    image = tmp_path / "kept.img"
    image.write_bytes(sound_image(kind))
    for name, (first, count) in KEPT.items():
        expected = "".join(f"{first + line:0511}\n" for line in range(count))
        assert host_tool(*(word.format(name=name, image=image) for word in reader)) == expected, name


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_the_stored_volumes_are_sound_to_e2fsck(kind: Kind, tmp_path: Path, host_tool: Callable[..., str]) -> None:
    (tmp_path / "kept.img").write_bytes(sound_image(kind))
    assert "files" in host_tool("e2fsck", "-f", "-n", tmp_path / "kept.img")


def test_a_server_that_refuses_a_volume_for_damage_elsewhere_is_found(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, report = Ext2Server.open, Ext2Server.report
    sulking: set[Any] = set()

    def report_and_sulk(self: Any, text: str) -> None:
        sulking.add(self)
        report(self, text)

    async def open_or_sulk(self: Any, request: Any) -> Any:
        if self in sulking:
            raise FileSystemError(ErrorCode.CORRUPT, "there was damage somewhere")
        return await original(self, request)

    monkeypatch.setattr(Ext2Server, "report", report_and_sulk)
    monkeypatch.setattr(Ext2Server, "open", open_or_sulk)
    outcome = command_line("fuzz", "images", "--fs", "ext2", "--count", "40")
    assert outcome.status == 1
    assert b"which is sound, cannot be opened: CORRUPT" in outcome.stdout


def test_a_system_that_reads_other_data_than_it_should_is_found() -> None:
    image = sound_image("ext2")
    target = fuzz_images.Target(image, booted=True)
    untouched = [witness for witness in target.witnesses if witness.path == "README.TXT"]
    other = [untouched[0]._replace(data=b"something else")]
    fuzz_images.boot(bytearray(image), untouched)
    with pytest.raises(AssertionError, match="sound files are read as something else"):
        fuzz_images.boot(bytearray(image), other)


@pytest.mark.breaks_invariants
def test_a_kernel_that_keeps_pages_or_locks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    image = bytearray(sound_image("fat16"))
    with monkeypatch.context() as patched:
        patched.setattr(Cache, "unlock", lambda *_: None)
        with pytest.raises(AssertionError, match=r"still held: .*cache blocks locked"):
            fuzz_images.boot(image, [])


def break_the_fat_server(monkeypatch: pytest.MonkeyPatch, *, when_damaged: bool) -> None:
    original = FatServer.open

    async def open_badly(self: Any, request: Any) -> Any:
        if bool(self.volume.damage) is when_damaged:
            raise IndexError("on purpose")
        return await original(self, request)

    monkeypatch.setattr(FatServer, "open", open_badly)


def test_a_server_that_breaks_is_found_with_the_command_that_shows_it(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_the_fat_server(monkeypatch, when_damaged=True)
    outcome = command_line("fuzz", "images", "--fs", "fat16", "--count", "10", "--seed", "5")
    assert outcome.status == 1
    seed = re.search(rb"seed (\d+): IndexError: on purpose\n", outcome.stdout)
    assert seed is not None, outcome.stdout
    command = f"fuzz images --fs fat16 --count 1 --seed {seed[1].decode()}"
    assert f"  again: callgate {command}\n".encode() in outcome.stdout
    again = command_line(*command.split())
    assert (again.status, again.stdout.splitlines()[0]) == (1, seed[0].strip())


def test_a_server_that_breaks_on_the_sound_volume_is_found_first(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_the_fat_server(monkeypatch, when_damaged=False)
    outcome = command_line("fuzz", "images", "--fs", "fat16", "--count", "10", "--seed", "5")
    assert outcome.status == 1
    assert outcome.stdout.startswith(b"without damage: IndexError: on purpose\n0 mutants:")


def test_damage_by_a_seed_is_repeatable_and_undone_afterwards() -> None:
    image = bytes(range(256)) * 64
    damage = Damage(image)
    first = [bytes(damage.apply(seed)) for seed in range(20) if damage.heal() is None]
    damage.heal()
    assert bytes(damage.image) == image
    second = [bytes(damage.apply(seed)) for seed in range(20) if damage.heal() is None]
    assert first == second
    assert sum(mutant != image for mutant in first) >= 18


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --fs or --image"),
        (["--fs", "fat16", "--image", "x"], "give either --fs or --image"),
        (["--fs", "fat16", "--seed", "x"], "'x' is not a number from 0 on"),
        (["--image", "missing.img"], "missing.img: there is no such file"),
        (["--image", "."], ".: is a directory, not a disk image"),
    ],
)
def test_wrong_arguments_of_fuzz_are_named(command_line: CommandLine, arguments: list[str], message: str) -> None:
    outcome = command_line("fuzz", "images", *arguments)
    assert outcome.status in (2, 5)
    assert message.encode() in outcome.stderr


def test_an_image_that_no_server_recognises_is_refused(command_line: CommandLine, tmp_path: Path) -> None:
    image = tmp_path / "noise.img"
    image.write_bytes(b"noise" * 2000)
    outcome = command_line("fuzz", "images", "--image", str(image))
    assert outcome.status == 5
    assert b"no file system that a server knows" in outcome.stderr


@pytest.mark.parametrize("table", ["--mbr", "--gpt"])
def test_an_image_with_partitions_is_refused_with_the_command_that_cuts_one_out(
    command_line: CommandLine, tmp_path: Path, table: str
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "A.TXT").write_bytes(b"a\n")
    command_line("disk", "create", "disk.img", "--from", "tree", "--fs", "fat12", "--size", "4M", table)
    outcome = command_line("fuzz", "images", "--image", "disk.img")
    assert outcome.status == 5
    message = outcome.messages.strip()
    assert message.startswith(
        "callgate: disk.img: has partitions, and --image wants one volume alone; cut partition 1 "
    )
    subprocess.run(message.partition("out: ")[2], shell=True, check=True, capture_output=True)  # noqa: S602
    outcome = command_line("fuzz", "images", "--image", "volume.img", "--count", "3")
    assert (outcome.status, outcome.messages) == (0, "")


def test_inspect_tells_how_much_of_a_volume_is_mapped_as_it_is(command_line: CommandLine, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "WHOLE.BIN").write_bytes(bytes(100 * 4096))
    (tree / "PART.BIN").write_bytes(bytes(5000))
    image = tmp_path / "out.img"
    command_line("disk", "create", str(image), "--from", str(tree), "--fs", "fat16")
    outcome = command_line("disk", "inspect", str(image))
    assert b"2 files, 102 pages of data: 99.0 % mapped as they are, 1 put together from copies (904 bytes)" in (
        outcome.stdout
    )


def test_an_archive_of_a_few_bytes_is_inspected_and_what_its_server_makes_is_told(
    command_line: CommandLine, tmp_path: Path
) -> None:
    archive = tmp_path / "small.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.txt", b"text")
    assert archive.stat().st_size < 512
    outcome = command_line("disk", "inspect", str(archive))
    assert outcome.status == 0
    assert b"1 file, 1 page of data: 0.0 % mapped as they are, 1 made by the server in its own memory" in (
        outcome.stdout
    )
    assert b"problem" not in outcome.stdout
    assert command_line("boot", str(archive), "-c", "cat a.txt").stdout == b"text"
