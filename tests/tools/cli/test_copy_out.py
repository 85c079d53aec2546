"""`callgate disk copy` and `disk ls`: what others put into an image comes out, and nothing gets where it should not."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import host_programs
import pytest
import synthetic_server as synthetic
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.servers import packages as server_packages
from callgate.server.errors import FileSystemError
from callgate.server.gate import allocate
from callgate.server.hosted import operation
from callgate.server.listing import ListedFile, build_pages
from callgate.server.message import Object, Registers, RegisterValues, Reply, Request
from callgate.tools.cli.copying import Progress
from callgate.tools.inspection import mounting
from callgate.tools.inspection.copy_out import Counts
from callgate.tools.inspection.volumes import Piece, Volume

Command = Callable[..., Any]
MODIFIED = 1_600_000_000
DIRECTORY, SYMLINK = FileAttributes.DIRECTORY, FileAttributes.SYMLINK


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of the host, with dates."""
    root = tmp_path / "tree"
    (root / "docs" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "README.TXT").write_text("read me\n")
    (root / "docs" / "long name, Füße.text").write_bytes(random.Random(1).randbytes(70_001))
    (root / "docs" / "one.txt").write_text("one\n")
    (root / "docs" / "two.txt").write_text("two\n")
    (root / "docs" / "deep" / "none").touch()
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (MODIFIED, MODIFIED))
    return root


def content(root: Path) -> dict[str, bytes | None]:
    """Return what lies below a directory: a file's bytes, None for a directory."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in sorted(root.rglob("*"))
    }


def times(root: Path) -> set[float]:
    return {path.stat().st_mtime for path in root.rglob("*")}


class TestImagesOfOthers:
    """What other programs have put into an image comes out, byte for byte, with its dates."""

    def test_ext4_with_links_holes_and_devices(self, command_line: Command, tree: Path) -> None:
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

    def test_fat_on_a_partition(self, command_line: Command, tree: Path) -> None:
        host_programs.run("mformat", "-C", "-i", "fat.img@@1M", "-T", "20480", "-h", "64", "-s", "32", "::")
        host_programs.run("mcopy", "-s", "-m", "-i", "fat.img@@1M", *sorted(tree.iterdir()), "::")
        host_programs.run("sfdisk", "-q", "fat.img", text="start=2048, size=20480, type=6\n")
        outcome = command_line("disk", "copy", "fat.img:", "out")
        assert (outcome.status, outcome.messages) == (0, "")
        assert content(Path("out")) == content(tree)
        assert times(Path("out")) == {MODIFIED}

    @pytest.mark.parametrize("kind", ["iso", "zip"])
    def test_archives(self, command_line: Command, tree: Path, kind: str) -> None:
        if kind == "iso":
            host_programs.run("genisoimage", "-quiet", "-R", "-o", "a.img", tree)
        else:
            host_programs.run("zip", "-q", "-r", Path("a.img").absolute(), ".", folder=tree)
        outcome = command_line("disk", "copy", "a.img:", "out")
        assert (outcome.status, outcome.messages) == (0, "")
        assert content(Path("out")) == content(tree)
        assert times(Path("out")) == {MODIFIED}


@pytest.fixture
def image(tree: Path, tmp_path: Path) -> Path:
    create_image(tmp_path / "a.img", tree)
    return Path("a.img")


class TestWhatPathsMean:
    def copied(self, command_line: Command, *arguments: str) -> dict[str, bytes | None]:
        outcome = command_line("disk", "copy", *arguments)
        assert (outcome.status, outcome.messages) == (0, "")
        return {name: data for name, data in content(Path()).items() if not name.startswith(("tree", "a.img"))}

    def test_a_file_gets_a_name_or_goes_into_a_directory(self, command_line: Command, image: Path) -> None:
        Path("there").mkdir()
        self.copied(command_line, "a.img:readme.txt", "new")
        assert self.copied(command_line, "a.img:/docs/./deep/../ONE.TXT", "there") == {
            "new": b"read me\n",
            "there": None,
            "there/one.txt": b"one\n",
        }

    def test_a_tree_becomes_the_destination_or_goes_into_it(
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

    def test_a_dash_is_standard_output(self, command_line: Command, image: Path) -> None:
        outcome = command_line("disk", "copy", "a.img:docs/*.txt", "a.img:README.TXT", "-")
        assert (outcome.status, outcome.stdout, outcome.messages) == (0, b"one\ntwo\nread me\n", "")
        assert command_line("disk", "copy", "a.img:docs", "-").messages == (
            "callgate: docs: is a directory; name a file, or another DEST\n"
        )

    def test_volumes_are_named_by_their_partitions(self, command_line: Command, image: Path) -> None:
        host_programs.run("truncate", "-s", "4M", "two.img")
        host_programs.run(
            "sfdisk", "-q", "two.img", text="start=2048, size=2048, type=6\nstart=4096, size=2048, type=6\n"
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
    def test_mistakes_are_named(
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
    """Nothing that is there is lost, and nothing is written elsewhere through what is there."""

    def test_a_file_is_replaced_only_with_force(self, command_line: Command, image: Path) -> None:
        Path("out/docs").mkdir(parents=True)
        for name in ("README.TXT", "docs/one.txt"):
            Path("out", name).write_text("mine\n")
        outcome = command_line("disk", "copy", "a.img:", "out")
        assert (outcome.status, outcome.messages.splitlines()) == (
            1,
            [
                "callgate: docs/one.txt: is there already; --force replaces it",
                "callgate: README.TXT: is there already; --force replaces it",
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
        assert "callgate: docs: something that is no directory is there already under that name\n" in outcome.messages
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
            "callgate: README.TXT: a directory of that name is there already",
            "callgate: docs/one.txt: something that is no file is there already under that name",
        ]
        assert (Path("out/README.TXT").is_dir(), Path("out/docs/one.txt").is_fifo()) == (True, True)


class Hostile(synthetic.Synthetic):
    """Lists what it likes; every name can be opened and holds its own path."""

    listings: ClassVar[dict[str, list[ListedFile]]] = {}

    @operation(Operation.LOCK_DIRECTORY)
    async def lock(self, request: Request) -> Reply:
        if request.path() not in self.listings:
            raise FileSystemError(ErrorCode.NOT_FOUND, request.path())
        pages = build_pages(self.listings[request.path()], 1)
        address = await allocate(len(pages))
        self.memory.write(address, pages)
        return Object(address, len(pages), RegisterValues(edx=1))

    @operation(Operation.UNLOCK_DIRECTORY)
    async def unlock(self, request: Request) -> Reply:
        return Registers(request.registers)

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        path = request.path()
        self.files.setdefault(path, synthetic.Layout(len(path.encode()), [], kind="object"))
        return await synthetic.Synthetic.open(self, request)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[ListedFile]]]:
    """An image `evil.img` whose server lists what the test says, by path."""
    (tmp_path / "evil.img").write_bytes(synthetic.disk(16))
    monkeypatch.setattr(mounting, "installed_servers", lambda: [Hostile])
    monkeypatch.setattr(server_packages, "_entries", list)
    for name in ("files", "held"):
        monkeypatch.setattr(Hostile, name, {})
    monkeypatch.setattr(Hostile, "listings", {"": []})
    monkeypatch.setattr(Hostile, "released", [])
    return Hostile.listings


def entry(name: str, attributes: int = 0, number: int = 0, modified: int = 0) -> ListedFile:
    return ListedFile(name, attributes, 5, modified, number)


class TestHostileImages:
    @pytest.mark.parametrize(
        "name", ["..", ".", "../up", "a/b", "/abs", "a\0b", "..\0", "/", "\0", "docs/../../up", "x/../../../tmp/up"]
    )
    @pytest.mark.parametrize("attributes", [0, DIRECTORY, SYMLINK])
    def test_a_name_that_leads_elsewhere_is_refused(
        self, command_line: Command, hostile: dict[str, list[ListedFile]], name: str, attributes: int
    ) -> None:
        hostile[""] = [entry(name, attributes), entry("good")]
        hostile[name] = [entry("inner")]
        for arguments in (["evil.img:", "out"], ["evil.img:*", "out2/"], ["evil.img:?*", "out3"]):
            Path("up").mkdir(exist_ok=True)
            outcome = command_line("disk", "copy", *arguments)
            assert outcome.status == 1
            assert "is no name for a file, left out" in outcome.messages
            assert "\0" not in outcome.messages
        assert sorted(map(str, Path().rglob("*"))) == [
            "evil.img", "out", "out/good", "out2", "out2/good", "out3", "out3/good", "up"
        ]  # fmt: skip

    def test_names_that_are_one_for_the_host_are_told_and_the_first_is_kept(
        self, command_line: Command, hostile: dict[str, list[ListedFile]]
    ) -> None:
        hostile[""] = [entry("same"), entry("same"), entry("dir", DIRECTORY), entry("dir")]
        hostile["dir"] = []
        for force in ((), ("--force",)):
            outcome = command_line("disk", "copy", "evil.img:", f"out{len(force)}", *force)
            assert outcome.messages.splitlines() == [
                "callgate: same: has the name of another file of the image on this host, left out",
                "callgate: dir: a directory of that name is there already",
            ]
            assert content(Path(f"out{len(force)}")) == {"dir": None, "same": bytes(i * 7 % 251 for i in range(4))}

    @pytest.mark.parametrize(
        "name", ["NUL", "con", "COM1.txt", "-rf", "a\\b", "x\n\x1b[2Jy", "name.", " ", "~", "$(x)"]
    )
    def test_names_that_mean_something_elsewhere_are_names_here_and_are_shown_harmlessly(
        self, command_line: Command, hostile: dict[str, list[ListedFile]], name: str
    ) -> None:
        hostile[""] = [entry(name)]
        assert command_line("disk", "copy", "evil.img:", "out").status == 0
        assert [path.name for path in Path("out").iterdir()] == [name]
        again = command_line("disk", "copy", "evil.img:", "out")
        assert again.status == 1
        assert len(again.messages.splitlines()) == 1
        listed = command_line("disk", "ls", "evil.img").stdout
        assert len(listed.splitlines()) == 1
        assert b"\x1b" not in listed + again.stderr

    def test_a_name_too_long_for_the_host_is_told(
        self, command_line: Command, hostile: dict[str, list[ListedFile]]
    ) -> None:
        hostile[""] = [entry("x" * 300), entry("good")]
        outcome = command_line("disk", "copy", "evil.img:", "out")
        assert outcome.messages.endswith("x: cannot be written: File name too long\n")
        assert [path.name for path in Path("out").iterdir()] == ["good"]

    def test_directories_that_lie_in_themselves_end(
        self, command_line: Command, hostile: dict[str, list[ListedFile]]
    ) -> None:
        loop = [entry("a", DIRECTORY, 7), entry("b", DIRECTORY, 7)]
        hostile[""] = loop
        hostile.update({"a": loop, "b": loop})
        outcome = command_line("disk", "copy", "evil.img:", "out")
        assert outcome.messages.splitlines() == [
            f"callgate: {name}: lies in the volume twice, left out" for name in ("a/a", "a/b", "b")
        ]

    def test_directories_without_numbers_end_at_a_depth(
        self, command_line: Command, hostile: dict[str, list[ListedFile]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Endless(dict[str, list[ListedFile]]):
            def __contains__(self, path: object) -> bool:
                return True

            def __missing__(self, path: str) -> list[ListedFile]:
                return [entry("d", DIRECTORY)]

        monkeypatch.setattr(Hostile, "listings", Endless())
        outcome = command_line("disk", "copy", "evil.img:", "out")
        assert outcome.status == 1
        assert outcome.messages.endswith("d/d: more than 100 directories in each other\n")

    @pytest.mark.parametrize("modified", [1, (1 << 63) - 1, (1 << 64) - 1])
    def test_a_date_that_the_host_cannot_have_is_no_failure(
        self, command_line: Command, hostile: dict[str, list[ListedFile]], modified: int
    ) -> None:
        hostile[""] = [entry("dated", modified=modified)]
        assert command_line("disk", "copy", "evil.img:", "out").status == 0
        assert command_line("disk", "ls", "evil.img").status == 0
        assert json.loads(command_line("disk", "ls", "evil.img", "--json").stdout)["entries"][0]["name"] == "dated"

    def test_a_file_that_cannot_be_read_to_its_end_is_told_and_not_kept(
        self, command_line: Command, hostile: dict[str, list[ListedFile]]
    ) -> None:
        hostile[""] = [entry("bad"), entry("short"), entry("good")]
        Hostile.files["bad"] = synthetic.Layout(100_000, [(1, 200)], fails_at=1024)
        Hostile.files["short"] = synthetic.Layout(5000, [(12, 100)])
        outcome = command_line("disk", "copy", "evil.img:", "out")
        assert outcome.messages.splitlines() == [
            "callgate: bad: the file system is damaged, nothing of it is kept",
            "callgate: nothing at 1024",
            "callgate: short: disk error, nothing of it is kept",
        ]
        assert [path.name for path in Path("out").iterdir()] == ["good"]
        Path("out/bad").write_text("mine\n")
        assert command_line("disk", "copy", "evil.img:bad", "out", "--force").status == 1
        assert content(Path("out"))["bad"] == b"mine\n"

    def test_a_server_that_raises_ends_with_a_message(
        self, command_line: Command, hostile: dict[str, list[ListedFile]]
    ) -> None:
        hostile[""] = [entry("good"), entry("")][:1]
        Hostile.files["good"] = synthetic.Layout(5000, [(1, 100)], most=0)
        outcome = command_line("disk", "copy", "evil.img:", "out")
        assert outcome.status == 1
        assert "callgate: good: " in outcome.messages
        assert "Traceback" not in outcome.messages


def test_a_copy_that_is_interrupted_leaves_no_part_of_a_file(
    command_line: Command, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def content(_volume: Volume, _path: str) -> Iterator[Piece]:
        yield Piece(0, 4, b"part")
        raise KeyboardInterrupt

    monkeypatch.setattr(Volume, "content", content)
    assert command_line("disk", "copy", "a.img:README.TXT", "new").status == 130
    assert not Path("new").exists()


def test_progress_is_one_line_that_goes_again(capsys: pytest.CaptureFixture[str]) -> None:
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

    def test_json_has_what_the_text_shows(self, command_line: Command, image: Path) -> None:
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

    def test_wildcards_list_by_path(self, command_line: Command, image: Path) -> None:
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
    def test_mistakes_are_named(
        self, command_line: Command, image: Path, place: str, status: int, message: str
    ) -> None:
        Path("blank.img").write_bytes(bytes(1 << 20))
        outcome = command_line("disk", "ls", place)
        assert (outcome.status, message in outcome.messages) == (status, True), outcome.messages
