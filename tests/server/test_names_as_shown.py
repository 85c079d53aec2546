"""Names of any bytes on a volume: every listed file can be opened, and no two names become the same."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.formatters.fat import Node
from callgate.kernel.abi.directory import FileAttributes
from callgate.server.formats.names import name_of_bytes, name_of_units, path_of_bytes, typeable

RAW = [b"caf\xe9", b"caf\xe8", b"a%41\xff", b"50%", b"a\\b", "größe".encode(), "日本".encode()]
SHOWN = ["caf%E9", "caf%E8", "a%2541%FF", "50%", "a%5Cb", "größe", "日本"]


def test_bytes_of_names_that_are_not_utf_8_are_written_as_numbers() -> None:
    assert [name_of_bytes(raw) for raw in RAW] == SHOWN
    assert name_of_bytes(b"\xff" * 255) == "%FF" * 255
    assert name_of_bytes(b"\xed\xa0\x80") == "%ED%A0%80", "a surrogate is not a character"
    assert path_of_bytes(b"../50%/caf\xe9/x") == "../50%/caf%E9/x"


def test_lone_surrogates_in_names_are_written_as_numbers() -> None:
    assert name_of_units("a\ud800b\\".encode("utf-16-be", "surrogatepass"), "be") == "a%uD800b%5C"
    assert name_of_units("😀%".encode("utf-16-le"), "le") == "😀%"
    assert typeable("a\\b") == "a%5Cb"


def fill(folder: Path) -> None:
    for raw in RAW:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + raw)).write_bytes(raw)
    Path(os.fsdecode(os.fsencode(folder) + b"/link")).symlink_to(os.fsdecode(RAW[0]))


def check(served: Any) -> None:
    for raw, shown in zip(RAW, SHOWN, strict=True):
        assert served.contents(shown) == raw
    assert served.contents("link") == RAW[0]
    files = {file.name for file in served.listing("") if not file.attributes & FileAttributes.DIRECTORY}
    assert files == {*SHOWN, "link"}


def test_names_of_ext_volumes_are_shown_with_numbers_for_bad_bytes(
    ext_image: Callable[[], Any], ext_client: Any
) -> None:
    image = ext_image()
    fill(image.folder)
    check(ext_client(image.format("2M").view()))


def test_names_of_rock_ridge_volumes_are_shown_with_numbers_for_bad_bytes(
    tmp_path: Path, iso_client: Any, host_tool: Callable[..., str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    fill(folder)
    host_tool("xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", tmp_path / "cd.iso", folder)
    check(iso_client((tmp_path / "cd.iso").read_bytes()))


@pytest.mark.parametrize(
    ("raw", "shown"), [("Gr\u00fc\u00dfe".encode("latin-1"), "Grüße"), ("Zürich".encode(), "Zürich")]
)
def test_names_of_a_primary_iso_tree_are_utf_8_or_else_latin_1(
    tmp_path: Path, iso_client: Any, host_tool: Callable[..., str], raw: bytes, shown: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    place = "N" * len(raw)
    (folder / place).write_bytes(b"data")
    host_tool("genisoimage", "-quiet", "-o", tmp_path / "cd.iso", folder)
    image = (tmp_path / "cd.iso").read_bytes()
    stored = place.encode() + b".;1"
    assert stored in image
    served = iso_client(image.replace(stored, raw + b".;1"))
    assert [file.name for file in served.listing("")] == [shown]
    assert served.contents(shown) == b"data"


def test_a_name_without_a_version_loses_the_dot_that_stands_for_no_extension(
    tmp_path: Path, iso_client: Any, host_tool: Callable[..., str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "README").write_bytes(b"read me")
    (folder / "A.TXT").write_bytes(b"text")
    host_tool("genisoimage", "-quiet", "-no-iso-translate", "-N", "-o", tmp_path / "cd.iso", folder)
    image = (tmp_path / "cd.iso").read_bytes()
    assert b"README." in image
    assert b"README.;1" not in image
    served = iso_client(image)
    assert [file.name for file in served.listing("")] == ["A.TXT", "README"]
    assert served.contents("readme") == b"read me"


def test_exfat_names_with_lone_surrogates_stay_apart(exfat_image: Any, exfat_client: Any) -> None:
    made = exfat_image([Node("Q1", 0, b"one"), Node("Q2", 0, b"two")])
    for name, units in (("Q1", "\ud800a"), ("Q2", "\ud801a")):
        at = made.entry_set(name)
        made.image[at + 66 : at + 70] = units.encode("utf-16-le", "surrogatepass")
        made.mend(at)
    served = exfat_client(made.image)
    assert [file.name for file in served.listing("")] == ["%uD800a", "%uD801a"]
    assert [served.contents(name) for name in ("%uD800a", "%ud801A")] == [b"one", b"two"]
    assert served.server.take_reports() == []


def test_an_exfat_name_of_255_lone_surrogates_is_shown_with_replacements(exfat_image: Any, exfat_client: Any) -> None:
    made = exfat_image([Node("Q" * 255, 0, b"long")])
    at = made.image.index(b"\xc1\0" + ("Q" * 15).encode("utf-16-le")) - 64
    for index in range(17):
        made.image[at + 66 + 32 * index : at + 96 + 32 * index] = b"\0\xd8" * 15
    served = exfat_client(made.mend(at).image)
    (found,) = served.listing("")
    assert found.name == "\ufffd" * 255
    assert served.contents(found.name) == b"long"
