"""`callgate fuzz images`: finds what is broken, says how to see it again, and finds nothing in our servers."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.server.fat import FatServer
from callgate.tools import fuzz_images

CommandLine = Callable[..., Any]


@pytest.mark.parametrize("fs", ["fat12", "fat16", "fat32", "exfat"])
def test_three_hundred_mutants_do_no_harm(command_line: CommandLine, fs: str) -> None:
    outcome = command_line("fuzz", "images", "--fs", fs, "--count", "300")
    assert outcome.status == 0, outcome.stdout
    assert b"0 findings" in outcome.stdout
    assert b"300 mutants" in outcome.stdout


def test_mutants_that_are_booted_do_no_harm(command_line: CommandLine) -> None:
    outcome = command_line("fuzz", "images", "--fs", "fat12", "--count", "30", "--seed", "1000", "--boot")
    assert (outcome.status, outcome.stderr) == (0, b""), outcome.stdout


def test_a_server_that_breaks_is_found_with_the_command_that_shows_it(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FatServer.open

    async def open_badly(self: Any, request: Any) -> Any:
        if request.path().endswith("LAST.BIN"):
            raise IndexError("on purpose")
        return await original(self, request)

    monkeypatch.setattr(FatServer, "open", open_badly)
    outcome = command_line("fuzz", "images", "--fs", "fat16", "--count", "3", "--seed", "5")
    assert outcome.status == 1
    assert b"seed 5: IndexError: on purpose" in outcome.stdout
    assert b"again: callgate fuzz images --fs fat16 --count 1 --seed 5\n" in outcome.stdout


def test_damage_is_the_same_for_a_seed_and_is_taken_back() -> None:
    image = bytes(range(256)) * 64
    damage = fuzz_images.Damage(image)
    first = [bytes(damage.apply(seed)) for seed in range(20) if damage.heal() is None]
    damage.heal()
    assert bytes(damage.image) == image
    second = [bytes(damage.apply(seed)) for seed in range(20) if damage.heal() is None]
    assert first == second
    assert sum(mutant != image for mutant in first) >= 18


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say either --fs or --image"),
        (["--fs", "fat16", "--image", "x"], "say either --fs or --image"),
        (["--image", "missing.img"], "missing.img: No such file or directory"),
    ],
)
def test_wrong_arguments_are_named(command_line: CommandLine, arguments: list[str], message: str) -> None:
    outcome = command_line("fuzz", "images", *arguments)
    assert outcome.status in (2, 5)
    assert message.encode() in outcome.stderr


def test_an_image_that_nobody_knows_is_refused(command_line: CommandLine, tmp_path: Path) -> None:
    image = tmp_path / "noise.img"
    image.write_bytes(b"noise" * 2000)
    outcome = command_line("fuzz", "images", "--image", str(image))
    assert outcome.status == 5
    assert b"no file system that a server knows" in outcome.stderr


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
