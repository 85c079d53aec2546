"""ISO 9660 volumes that end early: what isoinfo finds before the cut is read, the rest is an I/O error."""

import random
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import MountError

BLOCK = 2048
SIZES = (1, 2048, 2049, 7000, 15_001)


class Extent(NamedTuple):
    """Where isoinfo has found a file or a directory, in bytes."""

    start: int
    size: int


class Cd(NamedTuple):
    """A volume, where everything lies in it, and the files that it was made from."""

    image: bytes
    joliet: bool
    directories: dict[str, Extent]
    files: dict[str, Extent]
    contents: dict[str, bytes]


@pytest.fixture(scope="module", params=["-R", "-J"])
def cd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cd:
    run = pytest.importorskip("host_programs").run
    folder = tmp_path_factory.mktemp("cut")
    generator, contents = random.Random(4), {}
    for directory in ("", "/low", "/low/deep"):
        (folder / f"tree{directory}").mkdir(parents=True)
        for size in SIZES:
            contents[f"{directory}/{size}.bin"] = data = generator.randbytes(size)
            (folder / f"tree{directory}/{size}.bin").write_bytes(data)
    image = folder / "cd.iso"
    run("genisoimage", "-quiet", "-V", "CUT", request.param, "-no-pad", "-o", image, folder / "tree")
    directories, files = {}, {}
    for path, row in rows(run("isoinfo", request.param, "-l", "-i", image)):
        found = re.match(r"([d-])\S*(?:\s+\d+){3}\s+(\d+) .*\[ *(\d+) \S+\]\s+(.*?)(?:;1)? *$", row)
        assert found is not None, row
        place = Extent(int(found[3]) * BLOCK, int(found[2]))
        if found[1] == "-":
            files[f"{path}{found[4]}"] = place
        elif found[4] == ".":
            directories[path.rstrip("/")] = place
    assert files.keys() == contents.keys()
    return Cd(image.read_bytes(), request.param == "-J", directories, files, contents)


def rows(listing: str) -> Iterator[tuple[str, str]]:
    """Yield the directory, which ends with a slash, and the row of each entry of what `isoinfo -l` prints."""
    path = ""
    for row in listing.splitlines():
        if row.startswith("Directory listing of "):
            path = row.removeprefix("Directory listing of ").strip()
        elif row.strip():
            yield path, row


def places_to_cut(cd: Cd) -> list[int]:
    """Return where to cut: before, within and after everything, at sectors of 512 bytes."""
    edges = {place.start for place in (*cd.directories.values(), *cd.files.values())} | {len(cd.image)}
    return sorted({edge + more for edge in edges for more in (-512, 0, 512) if edge + more <= len(cd.image)})


def test_what_lies_before_the_cut_is_read_and_the_rest_is_an_io_error(
    cd: Cd, iso_client: Any, some_of: Callable[[list[int], int], list[int]]
) -> None:
    usable = [cut for cut in places_to_cut(cd) if cut >= cd.directories[""].start + BLOCK]
    read = 0
    for cut in some_of(usable, 3):
        served = iso_client(cd.image[:cut])
        short = [f"d0p1: the volume has {len(cd.image) // 512} sectors of 512 bytes, and there are {cut // 512}"]
        assert served.server.take_reports() == (short if cut < len(cd.image) else [])
        for name, place in cd.files.items():
            directory = name.rpartition("/")[0]
            listed = all(
                there.start + there.size <= cut for path, there in cd.directories.items() if directory.startswith(path)
            )
            opened = served.request(Operation.OPEN, name)
            assert opened.error is (ErrorCode.OK if listed else ErrorCode.IO_ERROR), (name, cut)
            if not listed:
                continue
            data, error = b"", ErrorCode.OK
            while len(data) < place.size and not error:
                start, part, answer = served.read_extract(opened.registers.eax, len(data), 1 << 20)
                data, error = data[:start] + part, answer.error
            there = max(0, min(place.size, cut - place.start))
            assert data == cd.contents[name][:there], (name, cut)
            assert error is (ErrorCode.OK if there == place.size else ErrorCode.IO_ERROR), (name, cut)
            read += there
    assert read > 0


def test_without_its_root_directory_a_tree_is_passed_over_and_the_last_one_refused(cd: Cd, iso_client: Any) -> None:
    """The tree of Joliet lies after the primary one, whose root directory may still be there."""
    root, whole = cd.directories[""].start, len(cd.image) // 512
    for cut in (0, 512, 16 * BLOCK):
        with pytest.raises(MountError, match=r"^no primary volume descriptor$"):
            iso_client(cd.image[:cut])
    for cut in (root, root + BLOCK - 512):
        missing = f"sectors {root // 512} to {root // 512 + 3} of the partition's {cut // 512}"
        complaint = f"{missing}; the volume has {whole} sectors of 512 bytes, and there are {cut // 512}"
        if cd.joliet:
            first, *_ = iso_client(cd.image[:cut]).server.take_reports()
            assert first.startswith("d0p1: the Joliet tree cannot be used: ")
            assert first.endswith(complaint)
        else:
            with pytest.raises(MountError) as refused:
                iso_client(cd.image[:cut])
            assert refused.value.text.endswith(complaint)
