"""Images that `create_image` makes, judged by dosfstools, mtools and the FAT specification."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from callgate.disk.formatters.fat_layout import FormatError, plan
from callgate.disk.formatters.fat_names import alias, checksum, long_entries, short_form
from callgate.disk.images.builder import create_image
from callgate.disk.images.tree import BuildError

Tool = Callable[..., str]
MIB = 1 << 20


def extract(image: Path, offset: int, size: int, to: Path) -> Path:
    with image.open("rb") as file:
        file.seek(offset)
        to.write_bytes(file.read(size))
    return to


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("scheme", [None, "mbr", "gpt"])
@pytest.mark.parametrize(("fs", "size"), [("fat12", None), ("fat16", None), ("fat32", 40 * MIB)])
def test_a_fat_image_is_clean_and_reads_back_identically(
    tree: Path, tmp_path: Path, tool: Tool, fs: str, size: int | None, scheme: str | None
) -> None:
    image = tmp_path / "out.img"
    built = create_image(image, tree, fs=fs, size=size, scheme=scheme, label="TESTING")  # type: ignore[arg-type] # text from the parameters
    assert built.file_system == fs
    offset = MIB if scheme else 0
    volume = extract(image, offset, built.size - offset - (33 * 512 if scheme == "gpt" else 0), tmp_path / "vol")
    report = tool("fsck.fat", "-n", "-v", volume)
    assert f"{fs[3:]} bit entries" in report
    assert not re.search(r"error|wrong|differ|dirty|mismatch|orphan|reclaim", report, re.IGNORECASE), report
    back = tmp_path / "back"
    back.mkdir()
    tool("mcopy", "-s", "-n", "-m", "-i", f"{image}@@{offset}", "::*", back)
    original = {path.relative_to(tree): path for path in tree.rglob("*")}
    # mtools knows only the basic plane of Unicode.
    names = {name for name in original if "𝄞" not in name.name}
    copied = {path.relative_to(back) for path in back.rglob("*")}
    assert names <= copied
    assert len(copied) == len(original)
    for name in names:
        if original[name].is_file():
            assert (back / name).read_bytes() == original[name].read_bytes(), name
            assert abs((back / name).stat().st_mtime - original[name].stat().st_mtime) <= 2
    assert "TESTING" in tool("mlabel", "-s", "-i", f"{image}@@{offset}", "::")


def test_the_partition_tables_satisfy_other_tools(tree: Path, tmp_path: Path, tool: Tool) -> None:
    create_image(tmp_path / "m.img", tree, scheme="mbr")
    create_image(tmp_path / "g.img", tree, scheme="gpt", label="SOME NAME")
    assert re.search(r"start= +2048, size= +\d+, type=1\b", tool("sfdisk", "-d", tmp_path / "m.img"))
    assert "No problems found" in tool("sgdisk", "-v", tmp_path / "g.img")
    listing = tool("sgdisk", "-i", "1", tmp_path / "g.img")
    assert "Microsoft basic data" in listing
    assert "First sector: 2048" in listing
    assert "'SOME NAME'" in listing


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("scheme", [None, "mbr", "gpt"])
@pytest.mark.parametrize("fs", ["fat12", "fat16", "fat32"])
def test_clusters_are_whole_pages_of_the_disk(tree: Path, tmp_path: Path, fs: str, scheme: str | None) -> None:
    built = create_image(tmp_path / "out.img", tree, fs=fs, scheme=scheme)  # type: ignore[arg-type] # text from the parameters
    start = MIB if scheme else 0
    boot = extract(built.path, start, 512, tmp_path / "boot").read_bytes()
    reserved, fats = int.from_bytes(boot[14:16], "little"), boot[16]
    size = int.from_bytes(boot[22:24], "little") or int.from_bytes(boot[36:40], "little")
    data = reserved + fats * size + int.from_bytes(boot[17:19], "little") // 16
    assert (start // 512 + data) % 8 == 0
    assert boot[13] % 8 == 0
    assert built.cluster == boot[13] * 512
    assert int.from_bytes(boot[28:32], "little") == start // 512, "hidden sectors"


def test_the_same_tree_gives_the_same_bytes_of_fat(tree: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.img", tmp_path / "2.img"
    create_image(first, tree, scheme="gpt", date=1_000_000_000)
    copy = shutil.copytree(tree, tmp_path / "copy")
    for path in copy.rglob("*"):
        os.utime(path, (5, 5))
    create_image(second, copy, scheme="gpt", date=1_000_000_000)
    assert first.read_bytes() == second.read_bytes()


def test_names_that_dos_would_confuse_get_different_aliases(tmp_path: Path, tool: Tool) -> None:
    source = tmp_path / "source"
    source.mkdir()
    names = ["FOO~1.TXT", "foo bar.txt", "foo baz.txt", "foo.bar.txt", "foo+.txt", "foobarfoobar.txt"]
    for name in names:
        (source / name).write_text(name)
    image = tmp_path / "out.img"
    create_image(image, source, fs="fat16")
    assert "files" in tool("fsck.fat", "-n", image)
    for name in names:
        assert tool("mtype", "-i", image, f"::{name}") == name
    listing = tool("mdir", "-f", "-i", image, "::")
    shorts = re.findall(r"^(\S+ *\S*) +\d+ \d{4}-", listing, re.MULTILINE)
    assert len(set(shorts)) == len(names)


def test_a_root_directory_larger_than_usual_fits_fat16(tmp_path: Path, tool: Tool) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for index in range(400):
        (source / f"a name that takes several entries {index}").touch()
    create_image(tmp_path / "out.img", source, fs="fat16")
    tool("fsck.fat", "-n", tmp_path / "out.img")
    assert tool("mdir", "-b", "-i", tmp_path / "out.img", "::").count("several") == 400


def test_a_full_fat32_volume_is_still_consistent(tmp_path: Path, tool: Tool) -> None:
    source = tmp_path / "source"
    source.mkdir()
    geometry = plan(32, 40 * 2048, 0)
    with (source / "big.bin").open("wb") as file:
        file.truncate((geometry.clusters - 1) * geometry.cluster * 512)
    create_image(tmp_path / "out.img", source, fs="fat32", size=40 * MIB)
    report = tool("fsck.fat", "-n", "-v", tmp_path / "out.img")
    assert f"{geometry.clusters}/{geometry.clusters} clusters" in report


def test_a_file_that_does_not_fit_is_named_and_no_image_is_left(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "big.bin").write_bytes(b"x" * (3 * MIB))
    with pytest.raises(BuildError, match=r"big\.bin: does not fit: \d+ clusters"):
        create_image(target / "out.img", source, size=2 * MIB)
    assert list(target.iterdir()) == []


def test_a_failed_build_leaves_the_old_image_alone(tmp_path: Path) -> None:
    source, image = tmp_path / "source", tmp_path / "out.img"
    source.mkdir()
    (source / "a:b").touch()
    image.write_bytes(b"old")
    with pytest.raises(BuildError, match=r"a:b.*cannot hold ':'"):
        create_image(image, source)
    assert image.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"trailing.", "do not end in a dot"),
        (b"what?", "cannot hold"),
        (b"bad\xff", "not valid UTF-8"),
        (b"line\nbreak", "cannot hold"),
    ],
)
def test_a_name_that_fat_cannot_hold_is_refused_by_name(tmp_path: Path, name: bytes, message: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / os.fsdecode(name)).touch()
    with pytest.raises(BuildError, match=message):
        create_image(tmp_path / "out.img", source)


def test_names_that_differ_by_case_alone_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "name").touch()
    (source / "NAME").touch()
    with pytest.raises(BuildError, match="cannot tell the name"):
        create_image(tmp_path / "out.img", source)


def test_links_and_pipes_are_skipped_with_a_warning(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "link").symlink_to("nowhere")
    os.mkfifo(source / "pipe")
    built = create_image(tmp_path / "out.img", source)
    assert [line.rsplit("/", 1)[1] for line in built.warnings] == [
        "link: a symbolic link, skipped",
        "pipe: a special file, skipped",
    ]


def test_a_file_of_four_gigabytes_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "huge").open("wb") as file:
        file.truncate(1 << 32)
    with pytest.raises(BuildError, match="huge: 4294967296 bytes; the most"):
        create_image(tmp_path / "out.img", source, fs="fat32", size=5 << 30)


@pytest.mark.parametrize("where", ["no such", "a file"])
def test_a_source_that_is_not_a_folder_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(BuildError, match=f"{where}: (there is no such|is not a) directory"):
        create_image(tmp_path / "out.img", tmp_path / where)


def test_a_target_folder_that_is_missing_is_named(tmp_path: Path, tree: Path) -> None:
    with pytest.raises(BuildError, match="No such file or directory"):
        create_image(tmp_path / "missing" / "out.img", tree)


@pytest.mark.parametrize("size", [0, 511, 513, -512, 1 << 42])
def test_an_impossible_image_size_is_refused(tmp_path: Path, tree: Path, size: int) -> None:
    with pytest.raises(BuildError, match="bytes"):
        create_image(tmp_path / "out.img", tree, size=size)


@pytest.mark.parametrize("label", ["TWELVE CHARS", "dot.", "Ünicode", " "])
def test_a_label_that_fat_cannot_hold_is_refused(tmp_path: Path, tree: Path, label: str) -> None:
    with pytest.raises(BuildError, match="label"):
        create_image(tmp_path / "out.img", tree, label=label)


@pytest.mark.parametrize("width", [12, 16, 32])
def test_cluster_counts_stay_clear_of_the_limits_between_widths(width: int) -> None:
    low, high = {12: (1, 4084 - 16), 16: (4085 + 16, 65524 - 16), 32: (65525 + 16, 268_435_444)}[width]
    made = 0
    for exponent in range(5, 33):
        for sectors in (1 << exponent, (1 << exponent) * 3 // 2 + 7):
            for start in (0, 63, 2048):
                try:
                    geometry = plan(width, sectors, start)
                except FormatError:
                    continue
                made += 1
                assert low <= geometry.clusters <= high
                assert geometry.data_start + geometry.clusters * geometry.cluster <= sectors
                assert geometry.fat_size * 512 * 8 >= (geometry.clusters + 2) * width
                assert (start + geometry.data_start) % 8 == 0
    assert made > 20


def test_aliases_follow_the_specification() -> None:
    taken: set[bytes] = set()
    numbers: dict[bytes, int] = {}

    def give(name: str) -> bytes:
        short = alias(name, taken, numbers)
        taken.add(short)
        return short

    # The examples of the specification, "Name Limits and Character Sets" and the generation algorithm.
    assert give("The quick brown.fox") == b"THEQUI~1FOX"
    assert give("The quick brown.fox") == b"THEQUI~2FOX"
    assert give("TextFile.Mine.txt") == b"TEXTFI~1TXT"
    assert give("ver +1.2.text") == b"VER_12~1TEX"
    assert give(".bashrc.swp") == b"BASHRC~1SWP"
    assert give("readme.txt") == b"README  TXT"
    assert short_form("README.TXT") == b"README  TXT"
    assert short_form("readme.txt") is None
    assert short_form("NINELETTE.TXT") is None
    assert short_form("A.B.C") is None


def test_long_name_entries_are_those_of_the_specifications_example() -> None:
    entries = long_entries("The quick brown.fox", b"THEQUI~1FOX")
    assert len(entries) == 64
    assert entries[0] == 0x42
    assert entries[32] == 0x01
    assert entries[33:43].decode("utf-16-le") == "The q"
    assert entries[46:58].decode("utf-16-le") == "uick b"
    assert entries[60:64].decode("utf-16-le") == "ro"
    assert entries[1:11].decode("utf-16-le") == "wn.fo"
    assert entries[14:18] == b"x\0\0\0"
    assert entries[18:26] == b"\xff" * 8
    assert entries[13] == entries[45] == checksum(b"THEQUI~1FOX")


def test_the_short_name_checksum_is_that_of_the_specification() -> None:
    # ChkSum() of the specification, spelt out for one name.
    total = 0
    for byte in b"FILENAMEEXT":
        total = ((0x80 if total & 1 else 0) + (total >> 1) + byte) % 256
    assert checksum(b"FILENAMEEXT") == total
