"""`poke` of the shell on real volumes: all programs see its changes, and no image is changed."""

import zlib
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image

CONTENT = bytes(range(251)) * 100
WHOLE = len(CONTENT) // 4096 * 4096
AT = 0x1FFE  # two pages


@pytest.fixture(scope="module", params=["fat16", "exfat"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "BIG").write_bytes(CONTENT)
    out = folder.with_suffix(".img")
    create_image(out, folder, fs=request.param, size=40 << 20)
    return out


def test_changed_bytes_are_in_the_file_and_not_in_the_image(boot: Any, image: Path) -> None:
    before = zlib.crc32(image.read_bytes())
    run = boot(f"poke BIG {AT} 1 2 0xff 4; crc32 BIG; cat BIG", image, scratch=True)
    changed = bytearray(CONTENT)
    changed[AT : AT + 4] = b"\1\2\xff\4"
    summed, _, shown = run.output.partition(b"\n")
    assert summed.split()[0] == b"%08x" % zlib.crc32(changed)
    assert shown == bytes(changed)
    assert run.status == 0
    assert run.system.statistics()["cache"]["changed"] == 2
    assert run.leaks() == []
    assert zlib.crc32(image.read_bytes()) == before


def test_poke_ends_before_the_last_page_of_a_file_and_says_why(boot: Any, image: Path) -> None:
    """What could be changed before it stays changed."""
    run = boot(f"poke BIG {WHOLE - 3} 1 2 3 4 5 6 7; hexdump BIG {WHOLE - 3} 4", image, scratch=True)
    lines = run.output.decode().splitlines()
    assert lines[0] == "poke: BIG: this page of the file is a copy, which cannot be written to"
    assert lines[1].split()[1:5] == ["01", "02", "03", f"{CONTENT[WHOLE]:02x}"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("x 1", "x: is not a number of bytes; write 4096 or 0x1000"),
        ("0 1 256", "256: is not a byte; write 0 to 255, or 0x00 to 0xff"),
        ("0 1z", "1z: is not a byte; write 0 to 255, or 0x00 to 0xff"),
    ],
)
def test_a_word_that_poke_cannot_take_is_wrong_usage(boot: Any, image: Path, words: str, text: str) -> None:
    run = boot(f"poke BIG {words}", image, scratch=True)
    assert (run.output.decode(), run.status) == (f"poke: {text}\n", 2)


@pytest.mark.parametrize("scratch", [False, True])
def test_poke_never_changes_a_file_of_a_read_only_volume_and_says_why(boot: Any, image: Path, scratch: bool) -> None:
    run = boot("poke /rom/hello 0 1", image, scratch=scratch)
    assert run.output == b"poke: /rom/hello: the file or its volume is read-only\n"


def test_poke_is_refused_unless_the_machine_was_booted_with_scratch(boot: Any, image: Path) -> None:
    run = boot("poke BIG 0 1", image)
    assert run.output == b"poke: BIG: files can be written to only after callgate boot --scratch\n"
    assert run.status == 1
    assert run.system.statistics()["cache"]["changed"] == 0
