"""`tree` and `find` compared with Python's listing of the same directories."""

import fnmatch
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tree_drawing import rendering

Make = Callable[..., Path]

FILES = {
    "README.TXT": b"hello\n",
    "a/b/c/deep.txt": b"deep",
    "a/B2.TXT": b"b",
    "a/zz.bin": b"z",
    "Long names/A file with a long name.txt": b"long",
    "Long names/café.txt": b"accent",
    "zero": b"",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "none").mkdir()
    return root


@pytest.fixture
def fat(folder: Path, tmp_path: Path, host_tool: Callable[..., str]) -> Path:
    image = tmp_path / "fat.img"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    host_tool("mkfs.fat", "-F", 16, image)
    host_tool("mcopy", "-s", "-Q", "-i", image, *sorted(folder.iterdir()), "::/")
    return image


def test_tree_draws_every_directory_and_file(boot: Any, fat: Path, folder: Path) -> None:
    run = boot("tree; tree a; tree none", fat)
    parts = [("/d0", folder), ("/d0/a", folder / "a"), ("/d0/none", folder / "none")]
    expected = itertools.chain.from_iterable([path, *rendering(directory)] for path, directory in parts)
    assert run.output.decode().splitlines() == list(expected)
    assert run.status == 0
    assert run.leaks() == []


@pytest.mark.parametrize("name", ["*.txt", "README.TXT", "*", "b*", "*.t?t", "caf?.txt", "zz.bin"])
def test_find_shows_the_paths_whose_last_part_matches(boot: Any, fat: Path, folder: Path, name: str) -> None:
    run = boot(f"find {name}", fat)
    paths = (path for path in folder.rglob("*") if fnmatch.fnmatch(path.name.lower(), name.lower()))
    assert sorted(run.output.decode().splitlines()) == sorted(f"/d0/{path.relative_to(folder)}" for path in paths)
    assert run.status == 0
    assert run.leaks() == []


def test_what_find_shows_is_a_path_that_cat_takes(boot: Any, fat: Path) -> None:
    run = boot('find "A file*"; find deep.txt /; find *.TXT a; cat "/d0/Long names/A file with a long name.txt"', fat)
    lines = run.output.decode().splitlines()
    # Quoted, an asterisk is one.
    assert lines[0] == "find: A file*: no such file"
    assert lines[1] == "/d0/a/b/c/deep.txt"
    assert sorted(lines[2:4]) == ["/d0/a/B2.TXT", "/d0/a/b/c/deep.txt"]
    assert lines[4] == "long"


def test_mistaken_arguments_of_tree_and_find_are_named(boot: Any, fat: Path) -> None:
    commands = ["find nosuch", "find a/b", "find x nosuch", "find", "tree nosuch", "tree README.TXT", "tree a b"]
    run = boot("; ".join(f"{command}; echo $?" for command in commands), fat)
    assert run.output.decode().splitlines() == [
        *("find: nosuch: no such file", "1"),
        *("find: a/b: is a path; give a name, and the directory to look in after it", "1"),
        *("find: nosuch: no such file or directory", "1"),
        *("usage: find NAME [PATH]", "2"),
        *("tree: nosuch: no such file or directory", "1"),
        *("tree: README.TXT: not a directory", "1"),
        *("usage: tree [PATH]", "2"),
    ]
    assert run.leaks() == []


def test_tree_and_find_show_links_without_following_them_and_match_case_as_the_volume_does(
    boot: Any, folder: Path, tmp_path: Path, host_tool: Callable[..., str]
) -> None:
    (folder / "a/up").symlink_to("..")
    (folder / "to the file").symlink_to("README.TXT")
    (folder / "readme.txt").write_bytes(b"another")
    image = tmp_path / "ext2.img"
    host_tool("mke2fs", "-q", "-F", "-t", "ext2", "-d", folder, image, "8M")
    run = boot("tree; find readme.txt; find up", image)
    lines = run.output.decode().splitlines()
    (folder / "lost+found").mkdir()
    # Names that differ in case alone are in the order in which the directory has them.
    assert sorted(lines[:-2]) == sorted(["/d0", *rendering(folder)])
    assert lines[-2:] == ["/d0/readme.txt", "/d0/a/up"]


def test_tree_shows_all_volumes_below_the_root(boot: Any, fat: Path) -> None:
    run = boot("find hello /; find deep.txt /; find HELLO /; tree /rom", fat)
    assert run.output.decode().splitlines()[:3] == ["/rom/hello", "/d0/a/b/c/deep.txt", "find: HELLO: no such file"]
    assert "0 directories, 3 files" in run.output.decode()


def test_a_directory_that_contains_itself_is_entered_once(
    boot: Any, folder: Path, tmp_path: Path, host_tool: Callable[..., str]
) -> None:
    image = tmp_path / "loop.img"
    host_tool("mke2fs", "-q", "-F", "-t", "ext2", "-d", folder, image, "8M")
    host_tool("debugfs", "-w", "-R", "ln a a/b/again", image)
    run = boot("tree a; echo $?; find deep.txt a; echo $?", image)
    text = run.output.decode()
    assert run.stop.reason == "exit"
    assert text.count("again") >= 2
    assert [line for line in text.splitlines() if line in ("0", "1")] == ["1", "1"]
    assert text.count("/d0/a/b/c/deep.txt") == 1
    assert run.leaks() == []


def test_a_directory_that_is_too_deep_is_named(boot: Any, fat_image: Make) -> None:
    deep = "/".join("abcdefghijklmnopqrstuvwxyz0123456789")
    run = boot("find nosuch; echo $?", fat_image({f"{deep}/x": b"x"}))
    lines = run.output.decode().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(": more than 32 directories deep")
    assert lines[1] == "1"
    assert run.leaks() == []


def test_a_disk_that_vanishes_during_a_walk_ends_the_walk_and_not_the_shell(
    boot: Any, fat: Path, find_leaks: Callable[..., list[str]], some_of: Callable[[range, int], list[int]]
) -> None:
    begun, ended = (boot(command, fat).system.machine.clock.retired for command in ("true", "tree /; true"))
    for fuel in some_of(range(begun, ended, (ended - begun) // 7), 2):
        run = boot("tree /; hello after", fat, fuel=fuel)
        run.system.unplug(0)
        run.system.run(fuel=100_000_000)
        assert run.system.exit_code == 0, fuel
        assert find_leaks(run.system) == [], fuel
