"""Symbolic links, and what is neither a file nor a directory."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import FileSystemError, Request, complete
from callgate.server.ext2.paths import LINKS_LIMIT, find
from callgate.server.ext2.volume import ExtVolume

LINKS = {
    "relative": "dir/file",
    "absolute": "/dir/file",
    "by dots": "./dir/../dir/./file",
    "above the root": "../../dir/file",
    "of 59 bytes": "dir/" + "./" * 25 + "/file",
    "of 60 bytes": "dir//" + "./" * 25 + "/file",
    "of 900 bytes": "dir/" + "./" * 446 + "file",
    "to a link": "relative",
    "through a link": "to dir/file",
    "dir/deeper/up": "../file",
    "dir/deeper/to the root": "/",
    "to dir": "dir",
    "to dir with a slash": "dir/",
}
BROKEN = {
    "loop": "loop",
    "ping": "pong",
    "pong": "ping",
    "dangling": "nowhere",
    "dangling below": "dir/nowhere/file",
    "spiral": "spiral/x",
}


@pytest.fixture(params=["-t ext2 -b 1024", "-t ext4 -b 4096"])
def image(request: pytest.FixtureRequest, ext_image: Callable[[], Any]) -> Any:
    image = ext_image()
    (image.folder / "dir" / "deeper").mkdir(parents=True)
    (image.folder / "dir" / "file").write_bytes(b"the file\n")
    for name, target in (LINKS | BROKEN).items():
        (image.folder / name).symlink_to(target)
    (image.folder / "to a file with a slash").symlink_to("dir/file/")
    chain = [f"link {number}" for number in range(LINKS_LIMIT + 1)]
    for name, target in zip(chain, [*chain[1:], "dir/file"], strict=True):
        (image.folder / name).symlink_to(target)
    os.mkfifo(image.folder / "pipe")
    image.format("4M", *request.param.split())
    image.change("mknod terminal c 5 0", "mknod drive b 8 0")
    return image


def test_symbolic_links_of_ext_volumes_lead_to_their_targets(image: Any, ext_client: Any) -> None:
    served = ext_client(image.view())
    assert len(LINKS["of 59 bytes"]) == 59
    assert len(LINKS["of 60 bytes"]) == 60
    for name in LINKS:
        if name not in {"dir/deeper/to the root", "to dir", "to dir with a slash"}:
            assert served.contents(name) == b"the file\n", name
    assert served.contents("dir/deeper/to the root/to dir/file") == b"the file\n"
    assert served.contents("to dir with a slash/deeper/up") == b"the file\n"
    assert served.server.take_reports() == []


def test_a_link_to_a_directory_lists_it(image: Any, ext_client: Any) -> None:
    served = ext_client(image.view())
    assert served.listing("to dir") == served.listing("dir") == served.listing("to dir/deeper/..")
    assert served.listing("dir/deeper/to the root") == served.listing("")
    assert served.request(Operation.OPEN, "to dir").error is ErrorCode.IS_DIRECTORY


def test_links_are_listed_as_links_with_the_length_of_their_target(image: Any, ext_client: Any) -> None:
    listed = {file.name: file for file in ext_client(image.view()).listing("")}
    for name, target in (LINKS | BROKEN).items():
        if "/" not in name:
            assert listed[name].attributes == FileAttributes.SYMLINK
            assert listed[name].size == len(target)


def test_links_that_lead_nowhere_are_not_found(image: Any, ext_client: Any) -> None:
    served = ext_client(image.view())
    for name in BROKEN:
        assert served.request(Operation.OPEN, name).error is ErrorCode.NOT_FOUND, name
        assert served.request(Operation.LOCK_DIRECTORY, name).error is ErrorCode.NOT_FOUND, name
    for name in ("relative/", "to a file with a slash", "relative/x", "dir/file/../file/x"):
        assert served.request(Operation.OPEN, name).error is ErrorCode.NOT_DIRECTORY, name


def test_forty_links_are_followed_and_no_more(image: Any, ext_client: Any) -> None:
    served = ext_client(image.view())
    assert served.contents("link 1") == b"the file\n"
    assert served.request(Operation.OPEN, "link 0").error is ErrorCode.NOT_FOUND


def test_links_cannot_make_a_path_without_end(ext_image: Callable[[], Any], ext_client: Any) -> None:
    image = ext_image()
    for number in range(30):
        (image.folder / f"{number}").symlink_to("./" * 450 + f"{number + 1}")
    (image.folder / "30").write_bytes(b"end\n")
    served = ext_client(image.format("2M", "-b", "1024").view())
    assert served.contents("25") == b"end\n"
    assert served.request(Operation.OPEN, "0").error is ErrorCode.NAME_TOO_LONG


@pytest.mark.parametrize(
    ("name", "kind"), [("pipe", "FIFO"), ("terminal", "character device"), ("drive", "block device")]
)
def test_devices_and_pipes_are_listed_and_cannot_be_opened(image: Any, ext_client: Any, name: str, kind: str) -> None:
    served = ext_client(image.view())
    (found,) = [file for file in served.listing("") if file.name == name]
    assert found.attributes & ~FileAttributes.READ_ONLY == FileAttributes.SYSTEM
    assert served.request(Operation.OPEN, name).error is ErrorCode.NOT_SUPPORTED
    request = served.rehearsal.post(Operation.OPEN, name.encode())
    with pytest.raises(FileSystemError, match=f"/{name} is a {kind}"):
        served.rehearsal.drive(
            served.server.handle(Request.load(served.rehearsal.memory, request, served.server.blocks[request]))
        )


def test_a_volume_can_be_read_without_a_server(image: Any) -> None:
    view = image.view()

    class Reader:
        async def read(self, sector: int, count: int) -> bytes:
            return bytes(view[sector * 512 : (sector + count) * 512])

    volume = complete(ExtVolume.mount(Reader(), len(view) // 512))
    inode = complete(find(volume, "/to a link"))
    assert inode.size == len(b"the file\n")
