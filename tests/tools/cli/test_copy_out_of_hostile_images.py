"""Copies out of hostile images: names that leave the folder, loops, false sizes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import synthetic_server as synthetic
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.servers import packages as server_packages
from callgate.server.errors import FileSystemError
from callgate.server.gate import allocate
from callgate.server.hosted import operation
from callgate.server.listing import ListedFile, build_pages
from callgate.server.message import Object, Registers, RegisterValues, Reply, Request
from callgate.tools.inspection import mounting
from copied import content

Command = Callable[..., Any]
DIRECTORY, SYMLINK = FileAttributes.DIRECTORY, FileAttributes.SYMLINK


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
            assert "is not a name for a file, left out" in outcome.messages
            assert "\0" not in outcome.messages
        assert sorted(map(str, Path().rglob("*"))) == [
            "evil.img", "out", "out/good", "out2", "out2/good", "out3", "out3/good", "up"
        ]  # fmt: skip

    def test_names_that_are_the_same_for_the_host_are_reported_and_the_first_is_kept(
        self, command_line: Command, hostile: dict[str, list[ListedFile]]
    ) -> None:
        hostile[""] = [entry("same"), entry("same"), entry("dir", DIRECTORY), entry("dir")]
        hostile["dir"] = []
        for force in ((), ("--force",)):
            outcome = command_line("disk", "copy", "evil.img:", f"out{len(force)}", *force)
            assert outcome.messages.splitlines() == [
                "callgate: same: has the name of another file of the image on this host, left out",
                "callgate: dir: a directory of that name already exists",
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

    def test_a_name_too_long_for_the_host_is_reported(
        self, command_line: Command, hostile: dict[str, list[ListedFile]]
    ) -> None:
        hostile[""] = [entry("x" * 300), entry("good")]
        outcome = command_line("disk", "copy", "evil.img:", "out")
        assert outcome.messages.endswith("x: cannot be written: File name too long\n")
        assert [path.name for path in Path("out").iterdir()] == ["good"]

    def test_directories_that_contain_themselves_are_copied_once(
        self, command_line: Command, hostile: dict[str, list[ListedFile]]
    ) -> None:
        loop = [entry("a", DIRECTORY, 7), entry("b", DIRECTORY, 7)]
        hostile[""] = loop
        hostile.update({"a": loop, "b": loop})
        outcome = command_line("disk", "copy", "evil.img:", "out")
        assert outcome.messages.splitlines() == [
            f"callgate: {name}: lies in the volume twice, left out" for name in ("a/a", "a/b", "b")
        ]

    def test_nested_directories_without_inode_numbers_are_copied_to_a_limited_depth(
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
        assert outcome.messages.endswith("d/d: more than 100 nested directories\n")

    @pytest.mark.parametrize("modified", [1, (1 << 63) - 1, (1 << 64) - 1])
    def test_a_date_that_the_host_cannot_represent_is_not_an_error(
        self, command_line: Command, hostile: dict[str, list[ListedFile]], modified: int
    ) -> None:
        hostile[""] = [entry("dated", modified=modified)]
        assert command_line("disk", "copy", "evil.img:", "out").status == 0
        assert command_line("disk", "ls", "evil.img").status == 0
        assert json.loads(command_line("disk", "ls", "evil.img", "--json").stdout)["entries"][0]["name"] == "dated"

    def test_a_file_that_cannot_be_read_to_its_end_is_reported_and_not_kept(
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
