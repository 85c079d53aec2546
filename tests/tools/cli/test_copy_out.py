"""`callgate disk copy` and `disk ls`: files of an image are copied out, and nothing is written elsewhere."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import host_programs
import pytest
from callgate.tools.cli.copying import Progress
from callgate.tools.inspection.copy_out import Counts
from callgate.tools.inspection.volumes import Piece, Volume
from copied import MODIFIED, content

Command = Callable[..., Any]


def times(root: Path) -> set[float]:
    return {path.stat().st_mtime for path in root.rglob("*")}


class TestImagesOfOthers:
    """Files that other programs have put into an image are copied out, byte for byte, with their dates."""

    def test_an_ext4_tree_with_links_holes_and_devices_is_copied_out(self, command_line: Command, tree: Path) -> None:
        before = content(tree)
        (tree / "run").write_text("#!/bin/sh\n")
        (tree / "run").chmod(0o4755)
        with (tree / "sparse").open("wb") as file:
            os.pwrite(file.fileno(), b"end", 30 << 20)
        (tree / "link").symlink_to("docs/one.txt")
        (tree / "absolute").symlink_to("/docs/two.txt")
        (tree / "outside").symlink_to("../../../../../../etc/passwd")
        (tree / "folder").symlink_to("docs")
        (tree / "up").symlink_to(".")
        os.mkfifo(tree / "pipe")
        for path in (tree / "run", tree / "sparse"):
            os.utime(path, (MODIFIED, MODIFIED))
        host_programs.run("mke2fs", "-q", "-t", "ext4", "-d", tree, "ext.img", "40M")
        outcome = command_line("disk", "copy", "ext.img:", "out")
        assert outcome.status == 1
        assert sorted(outcome.messages.splitlines()) == [
            "callgate: folder: a symbolic link to a directory, left out",
            "callgate: outside: a symbolic link that cannot be followed (no such file or directory), left out",
            "callgate: pipe: no regular file (a device, a pipe or a socket), left out",
            "callgate: up: a symbolic link to a directory, left out",
        ]
        out = Path("out")
        found = content(out)
        assert {name: found[name] for name in before} == before
        assert (found["link"], found["absolute"]) == (b"one\n", b"two\n")
        assert found["sparse"] == (tree / "sparse").read_bytes()
        assert (out / "sparse").stat().st_blocks < 1000
        assert set(found) == {*before, "run", "sparse", "link", "absolute", "lost+found"}
        assert (out / "run").stat().st_mode & 0o7777 == 0o777 & ~0o022
        assert not any(path.is_symlink() for path in out.rglob("*"))
        assert {path.stat().st_mtime for path in (out / "run", out / "docs", out / "docs" / "one.txt")} == {MODIFIED}

    def test_a_fat_volume_on_a_partition_is_copied_out(self, command_line: Command, tree: Path) -> None:
        host_programs.run("mformat", "-C", "-i", "fat.img@@1M", "-T", "20480", "-h", "64", "-s", "32", "::")
        host_programs.run("mcopy", "-s", "-m", "-i", "fat.img@@1M", *sorted(tree.iterdir()), "::")
        host_programs.run("sfdisk", "-q", "--no-tell-kernel", "fat.img", text="start=2048, size=20480, type=6\n")
        outcome = command_line("disk", "copy", "fat.img:", "out")
        assert (outcome.status, outcome.messages) == (0, "")
        assert content(Path("out")) == content(tree)
        assert times(Path("out")) == {MODIFIED}

    @pytest.mark.parametrize("kind", ["iso", "zip"])
    def test_archives_are_copied_out(self, command_line: Command, tree: Path, kind: str) -> None:
        if kind == "iso":
            host_programs.run("genisoimage", "-quiet", "-R", "-o", "a.img", tree)
        else:
            host_programs.run("zip", "-q", "-r", Path("a.img").absolute(), ".", folder=tree)
        outcome = command_line("disk", "copy", "a.img:", "out")
        assert (outcome.status, outcome.messages) == (0, "")
        assert content(Path("out")) == content(tree)
        assert times(Path("out")) == {MODIFIED}


class TestWhatPathsMean:
    def copied(self, command_line: Command, *arguments: str) -> dict[str, bytes | None]:
        outcome = command_line("disk", "copy", *arguments)
        assert (outcome.status, outcome.messages) == (0, "")
        return {name: data for name, data in content(Path()).items() if not name.startswith(("tree", "a.img"))}

    def test_a_file_is_copied_to_a_new_name_or_into_a_directory(self, command_line: Command, image: Path) -> None:
        Path("there").mkdir()
        self.copied(command_line, "a.img:readme.txt", "new")
        assert self.copied(command_line, "a.img:/docs/./deep/../ONE.TXT", "there") == {
            "new": b"read me\n",
            "there": None,
            "there/one.txt": b"one\n",
        }

    def test_a_tree_is_copied_as_the_destination_or_into_it(
        self, command_line: Command, image: Path, tree: Path
    ) -> None:
        docs = content(tree / "docs")
        assert self.copied(command_line, "a.img:docs", "new") == {"new": None} | {
            f"new/{n}": d for n, d in docs.items()
        }
        again = self.copied(command_line, "a.img:docs", "new/")
        assert {f"new/docs/{name}": data for name, data in docs.items()}.items() <= again.items()

    def test_wildcards_stand_for_names_in_every_part(self, command_line: Command, image: Path) -> None:
        assert self.copied(command_line, "a.img:d?cs/t*.TXT", "a.img:*/one.txt", "new/") == {
            "new": None,
            "new/one.txt": b"one\n",
            "new/two.txt": b"two\n",
        }

    def test_disk_copy_writes_a_file_to_standard_output_for_a_dash(self, command_line: Command, image: Path) -> None:
        outcome = command_line("disk", "copy", "a.img:docs/*.txt", "a.img:README.TXT", "-")
        assert (outcome.status, outcome.stdout, outcome.messages) == (0, b"one\ntwo\nread me\n", "")
        assert command_line("disk", "copy", "a.img:docs", "-").messages == (
            "callgate: docs: is a directory; name a file, or another DEST\n"
        )

    def test_volumes_are_named_by_their_partitions(self, command_line: Command, image: Path) -> None:
        host_programs.run("truncate", "-s", "4M", "two.img")
        host_programs.run(
            "sfdisk",
            "-q",
            "--no-tell-kernel",
            "two.img",
            text="start=2048, size=2048, type=6\nstart=4096, size=2048, type=6\n",
        )
        with Path("two.img").open("r+b") as file:
            for place in (1 << 20, 2 << 20):
                os.pwrite(file.fileno(), image.read_bytes()[: 1 << 20], place)
        assert command_line("disk", "ls", "two.img").stdout == b"p1    fat12     CALLGATE\np2    fat12     CALLGATE\n"
        assert command_line("disk", "copy", "two.img:P2/README.TXT", "-").stdout == b"read me\n"
        refused = command_line("disk", "copy", "two.img:README.TXT", "-")
        assert (refused.status, refused.messages) == (
            1,
            "callgate: two.img:README.TXT: the image has the volumes p1, p2; begin with one\n",
        )
        assert command_line("disk", "copy", "two.img:", "both").status == 0
        assert sorted(path.name for path in Path("both").iterdir()) == ["p1", "p2"]

    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (["a.img:nothing", "new"], 1, "a.img:nothing: no such file or directory"),
            (["a.img:*.doc", "new"], 1, "a.img:*.doc: no such file"),
            (["a.img:README.TXT/x", "new"], 1, "a.img:README.TXT/x: not a directory"),
            (["a.img", "new"], 2, "a.img: write IMAGE:PATH; a.img: is all that is in the image"),
            (["missing.img:x", "new"], 5, "missing.img: there is no such file"),
            (["tree/README.TXT:x", "new"], 5, "is 8 bytes long, shorter than one sector"),
            (["a.img:README.TXT", "no/such/new"], 1, "no/such/new: cannot be written: No such file or directory"),
            (["a.img:README.TXT", "a.img:docs", "a.img"], 1, "a.img: cannot be written: Not a directory"),
        ],
    )
    def test_mistaken_arguments_of_disk_copy_are_named(
        self, command_line: Command, image: Path, arguments: list[str], status: int, message: str
    ) -> None:
        before = image.read_bytes()
        outcome = command_line("disk", "copy", *arguments)
        assert (outcome.status, message in outcome.messages) == (status, True), outcome.messages
        assert "Traceback" not in outcome.messages
        assert (Path("new").exists(), image.read_bytes() == before) == (False, True)

    def test_an_image_may_have_a_colon_in_its_name(self, command_line: Command, image: Path) -> None:
        image.rename("b:c.img")
        assert command_line("disk", "copy", "b:c.img:README.TXT", "-").stdout == b"read me\n"


class TestWhatIsThere:
    """No existing file is lost, and nothing is written elsewhere through existing links."""

    def test_a_file_is_replaced_only_with_force(self, command_line: Command, image: Path) -> None:
        Path("out/docs").mkdir(parents=True)
        for name in ("README.TXT", "docs/one.txt"):
            Path("out", name).write_text("mine\n")
        outcome = command_line("disk", "copy", "a.img:", "out")
        assert (outcome.status, outcome.messages.splitlines()) == (
            1,
            [
                "callgate: docs/one.txt: already exists; --force replaces it",
                "callgate: README.TXT: already exists; --force replaces it",
            ][:: 1 if outcome.messages.startswith("callgate: docs") else -1],
        )
        assert Path("out/README.TXT").read_text() == Path("out/docs/one.txt").read_text() == "mine\n"
        assert Path("out/docs/two.txt").read_text() == "two\n"
        assert command_line("disk", "copy", "a.img:", "out", "--force").status == 0
        assert content(Path("out")) == content(Path("tree"))

    def test_a_link_is_replaced_and_not_written_through(self, command_line: Command, image: Path) -> None:
        Path("out").mkdir()
        Path("secret").write_text("secret\n")
        Path("out/README.TXT").symlink_to("../secret")
        assert command_line("disk", "copy", "a.img:README.TXT", "out").status == 1
        assert command_line("disk", "copy", "a.img:README.TXT", "out", "--force").status == 0
        assert (Path("secret").read_text(), Path("out/README.TXT").is_symlink()) == ("secret\n", False)

    @pytest.mark.parametrize("force", [(), ("--force",)])
    def test_a_directory_that_is_a_link_is_not_entered(
        self, command_line: Command, image: Path, force: tuple[str, ...]
    ) -> None:
        Path("elsewhere").mkdir()
        Path("out").mkdir()
        Path("out/docs").symlink_to("../elsewhere")
        outcome = command_line("disk", "copy", "a.img:", "out", *force)
        assert outcome.status == 1
        assert "callgate: docs: something that is not a directory already has that name\n" in outcome.messages
        assert list(Path("elsewhere").iterdir()) == []
        assert Path("out/README.TXT").exists()

    def test_the_image_itself_is_never_replaced(self, command_line: Command, image: Path) -> None:
        before = image.read_bytes()
        outcome = command_line("disk", "copy", "a.img:README.TXT", "a.img", "--force")
        assert (outcome.status, outcome.messages) == (1, "callgate: README.TXT: would replace an image that is read\n")
        assert image.read_bytes() == before

    def test_a_directory_and_a_pipe_are_never_replaced(self, command_line: Command, image: Path) -> None:
        Path("out/README.TXT").mkdir(parents=True)
        Path("out/docs").mkdir()
        os.mkfifo("out/docs/one.txt")
        outcome = command_line("disk", "copy", "a.img:", "out", "--force")
        assert sorted(outcome.messages.splitlines()) == [
            "callgate: README.TXT: a directory of that name already exists",
            "callgate: docs/one.txt: something that is not a file already has that name",
        ]
        assert (Path("out/README.TXT").is_dir(), Path("out/docs/one.txt").is_fifo()) == (True, True)


def test_a_copy_that_is_interrupted_leaves_no_part_of_a_file(
    command_line: Command, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def content(_volume: Volume, _path: str) -> Iterator[Piece]:
        yield Piece(0, 4, b"part")
        raise KeyboardInterrupt

    monkeypatch.setattr(Volume, "content", content)
    assert command_line("disk", "copy", "a.img:README.TXT", "new").status == 130
    assert not Path("new").exists()


def test_progress_is_one_line_that_is_erased_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    assert not progress.wanted, "standard error is no terminal here"
    progress.wanted = True
    progress.show(Counts(files=3, bytes=5 << 20), "a/" * 40 + "end\x1b")
    progress.show(Counts(files=4), "too soon")
    progress.say("something")
    shown, rest = capsys.readouterr().err.split("\r", maxsplit=1)
    assert (len(shown), shown[:19], shown[-8:]) == (79, "3 files, 5.0 MiB  .", "/end\\x1b")
    assert rest == f"{' ' * 79}\rcallgate: something\n"


class TestListing:
    def test_a_directory_is_listed_as_the_shell_does_it(self, command_line: Command, image: Path) -> None:
        booted = command_line("boot", "-q", "a.img", "-c", "ls -l docs")
        listed = command_line("disk", "ls", "a.img:docs")
        assert sorted(listed.stdout.splitlines()) == sorted(booted.stdout.splitlines())
        assert listed.messages == ""

    def test_the_json_listing_has_what_the_text_shows(self, command_line: Command, image: Path) -> None:
        listed = json.loads(command_line("disk", "ls", "a.img:docs", "--json").stdout)
        assert {key: listed[key] for key in ("image", "volume", "file_system", "path")} == {
            "image": "a.img",
            "volume": "",
            "file_system": "fat12",
            "path": "docs",
        }
        entries = {one.pop("name"): one for one in listed["entries"]}
        date = "2020-09-13T12:26:40"
        assert entries["one.txt"] == {"type": "file", "size": 4, "modified": date, "attributes": ["archive"]}
        assert entries["deep"] == {"type": "directory", "size": 0, "modified": date, "attributes": ["directory"]}

    def test_listings_of_wildcards_show_paths(self, command_line: Command, image: Path) -> None:
        lines = command_line("disk", "ls", "a.img:*/*.txt").stdout.decode().splitlines()
        assert [line.split()[-1] for line in lines] == ["docs/one.txt", "docs/two.txt"]

    @pytest.mark.parametrize(
        ("place", "status", "message"),
        [
            ("a.img:nothing", 1, "a.img:nothing: no such file or directory"),
            ("missing.img", 5, "missing.img: there is no such file"),
            ("tree", 5, "tree: is a directory, not a disk image"),
            ("blank.img", 5, "blank.img: no volume that can be used; no file system that a server knows; look into it"),
        ],
    )
    def test_mistaken_arguments_of_disk_ls_are_named(
        self, command_line: Command, image: Path, place: str, status: int, message: str
    ) -> None:
        Path("blank.img").write_bytes(bytes(1 << 20))
        outcome = command_line("disk", "ls", place)
        assert (outcome.status, message in outcome.messages) == (status, True), outcome.messages
