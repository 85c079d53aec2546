"""Whole trees on volumes of mke2fs, genisoimage, xorriso and zip: the shell shows what other readers read.

The expectation is not the source but what debugfs, xorriso and unzip take out of the finished image: names,
kinds and bytes, which the shell must list by `tree` and `find`, sum up by `crc32` and, of small files, print by `cat`.
"""

import random
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from tree_drawing import rendering

Tool = Callable[..., str]
LINE_LIMIT = 511
CAT_LIMIT = 20_000  # bytes of files that are printed: through a serial line
SIZES = (0, 1, 511, 512, 513, 1023, 1025, 2047, 2048, 2049, 4095, 4096, 4097, 12 * 1024, 13 * 1024 + 1, 269 * 1024 + 5)


def span(root: Path, wide: Iterable[int]) -> None:
    """Write files of every interesting size and name, deep and wide."""
    chance = random.Random(8)
    files = {f"sizes/{size} bytes": chance.randbytes(size) for size in SIZES}
    files |= {f"wide/entry number {number:03}.text": b"%d\n" % number * number for number in wide}
    files["/".join(f"level {number}" for number in range(1, 12)) + "/bottom"] = chance.randbytes(3000)
    files |= {
        "Ünïcode ☃/名前.txt": b"name\n",
        "wide/" + "n" * 60: b"60\n",
        "MiXed.CaSe": b"case\n",
        ".hidden": b"dot\n",
    }
    files |= {"words.txt": b"the same words again\n" * 8_000, "it's; #1 & $2": b"quoted\n"}
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "empty folder").mkdir()


def span_links(root: Path) -> None:
    """Add what only file systems of Unix have: links of every kind, and holes."""
    (root / "fast link").symlink_to("level 1/level 2")
    (root / "slow link").symlink_to("level 1/" + "./" * 40 + "level 2/../level 2/level 3")
    (root / "level 1/up").symlink_to("../words.txt")
    (root / "absolute").symlink_to("/sizes/512 bytes")
    (root / "round").symlink_to("round")
    with (root / "holes").open("wb") as file:
        for place in (0, 13 * 1024, 300 * 1024, 600_000):
            file.seek(place)
            file.write(b"data between holes")
        file.truncate(650_000)


def ext_volume(*options: str) -> Callable[[Tool, Path, Path], None]:
    def make(tool: Tool, image: Path, root: Path) -> None:
        tool("mke2fs", "-q", "-F", "-N", 1024, *options, "-d", root, image, "24M")

    return make


def iso(*command: str) -> Callable[[Tool, Path, Path], None]:
    def make(tool: Tool, image: Path, root: Path) -> None:
        tool(*command, "-quiet", "-V", "FOREIGN", "-o", image, root)

    return make


def archive(*options: str) -> Callable[[Tool, Path, Path], None]:
    def make(tool: Tool, image: Path, root: Path) -> None:
        tool("zip", "-q", "-r", *options, image, ".", folder=root)

    return make


def by_debugfs(tool: Tool, image: Path, to: Path) -> None:
    tool("debugfs", "-R", f'rdump / "{to}"', image)


def by_xorriso(tool: Tool, image: Path, to: Path) -> None:
    tool("xorriso", "-osirrox", "on", "-indev", f"stdio:{image}", "-extract", "/", to)
    tool("chmod", "-R", "u+w", to)


def by_unzip(tool: Tool, image: Path, to: Path) -> None:
    tool("unzip", "-q", image, "-d", to)


UNIX = {
    "ext2, 1 KiB blocks": (ext_volume("-t", "ext2", "-b", "1024"), by_debugfs),
    "ext2, 2 KiB blocks, revision 0": (ext_volume("-t", "ext2", "-b", "2048", "-r", "0"), by_debugfs),
    "ext2, 4 KiB blocks": (ext_volume("-t", "ext2", "-b", "4096"), by_debugfs),
    "ext3, 1 KiB blocks": (ext_volume("-t", "ext3", "-b", "1024"), by_debugfs),
    "ext4, 1 KiB blocks": (ext_volume("-t", "ext4", "-b", "1024"), by_debugfs),
    "ext4, 4 KiB blocks": (ext_volume("-t", "ext4", "-b", "4096"), by_debugfs),
    "ext4, bigalloc": (ext_volume("-t", "ext4", "-b", "1024", "-C", "4096", "-O", "bigalloc"), by_debugfs),
    "ext4, meta_bg": (ext_volume("-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"), by_debugfs),
    "ext4, block maps": (ext_volume("-t", "ext4", "-O", "^extents,^64bit,^flex_bg,^metadata_csum"), by_debugfs),
    "Rock Ridge of genisoimage": (iso("genisoimage", "-R"), by_xorriso),
    "Rock Ridge and Joliet of genisoimage": (iso("genisoimage", "-R", "-J", "-joliet-long"), by_xorriso),
    "Rock Ridge of xorriso": (iso("xorriso", "-as", "mkisofs", "-R", "-J", "-iso-level", "3"), by_xorriso),
}
PLAIN = {
    "zip, deflated": (archive(), by_unzip),
    "zip, stored": (archive("-0"), by_unzip),
    "zip, ZIP64": (archive("-fz"), by_unzip),
}
ALL = UNIX | PLAIN


@pytest.mark.thorough(one_in=16)
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("make", "read"), list(ALL.values()), ids=list(ALL))
def test_a_whole_tree_is_read_as_other_readers_read_it(
    boot: Any,
    tmp_path: Path,
    host_tool: Tool,
    request: pytest.FixtureRequest,
    some_of: Callable[[range, int], list[int]],
    make: Any,
    read: Any,
) -> None:
    source, image, theirs = tmp_path / "source", tmp_path / "volume.img", tmp_path / "theirs"
    source.mkdir()
    theirs.mkdir()
    span(source, some_of(range(200), 4))
    if request.node.callspec.id in UNIX:
        span_links(source)
    make(host_tool, image, source)
    read(host_tool, image, theirs)
    shown(boot, image, theirs)


def shown(boot: Any, image: Path, theirs: Path) -> None:
    """Compare what the shell shows of a volume with a directory of the host."""
    everything = sorted(theirs.rglob("*"))
    files = {path.relative_to(theirs).as_posix(): path for path in everything if path.is_file()}
    assert len(files) > 70
    contents = {name: target_within(theirs, path).read_bytes() for name, path in files.items()}
    script = ["tree", "echo ===", "find *", "echo ==="]
    small = [name for name, data in contents.items() if len(data) <= CAT_LIMIT]
    script += [*lines("crc32", contents), "echo ===", *lines("cat", small)]
    tree, found, sums, printed = session(boot, image, script).split(b"===\n", 3)
    assert tree.decode().splitlines() == ["/d0", *rendering(theirs)]
    paths = [f"/d0/{path.relative_to(theirs).as_posix()}" for path in everything]
    assert sorted(found.decode().splitlines()) == sorted(paths)
    expected = [f"{zlib.crc32(data):08x}  {name}" for name, data in contents.items()]
    assert sums.decode().splitlines() == expected
    assert printed == b"".join(contents[name] for name in small)


def lines(command: str, names: Iterable[str]) -> list[str]:
    """Return commands with all the names, as many in a line as the shell takes."""
    made = [command]
    for name in names:
        if len(f'{made[-1]} "{name}"'.encode()) > LINE_LIMIT:
            made.append(command)
        made[-1] += f' "{name}"'
    return made


def target_within(root: Path, path: Path) -> Path:
    """Return the target of an absolute link whose root is that of the volume."""
    if path.is_symlink() and str(path.readlink()).startswith("/"):
        return root / str(path.readlink()).lstrip("/")
    return path


def session(boot: Any, image: Path, script: list[str]) -> bytes:
    """Boot with lines coming through a pipe; nothing may fail, and nothing be left held."""
    rest = "".join(f"{line}\n" for line in script).encode()

    def source(size: int) -> bytes:
        nonlocal rest
        piece, rest = rest[:size], rest[size:]
        return piece

    run = boot(None, image, source=source, fuel=2_000_000_000)
    assert (run.stop.reason, run.status) == ("exit", 0), (run.log, run.output[-300:])
    assert len(run.log) == 2, run.log
    assert run.leaks() == []
    output: bytes = run.output
    return output
