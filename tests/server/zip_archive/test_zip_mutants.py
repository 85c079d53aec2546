"""Hundreds of archives with garbled structures: never a fault, never a loop, never memory that is not given back."""

import io
import random
import zipfile
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import MountError
from callgate.server.zip_archive.server import ZipServer
from damaged_volumes import MUTANTS, Damage, Region, outcomes_of

VISITS = 40  # directories and files tried in one mutant
CALLS = 2000
ALLOWED = {
    ErrorCode.CORRUPT,
    ErrorCode.IO_ERROR,
    ErrorCode.IS_DIRECTORY,
    ErrorCode.NOT_DIRECTORY,
    ErrorCode.NOT_FOUND,
    ErrorCode.NOT_SUPPORTED,
    ErrorCode.NO_RESOURCES,
}


@pytest.fixture(params=[False, True], ids=["plain", "zip64"])
def image(request: pytest.FixtureRequest) -> bytearray:
    generator = random.Random(5)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(12):
            name = f"{'dir/' * (number % 3)}file{number}"
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            with archive.open(info, "w", force_zip64=request.param) as out:
                out.write(bytes(generator.choices(b"abc", k=3000 * number)))
        archive.comment = b"mutant"
    return bytearray(buffer.getvalue().ljust(-(-buffer.tell() // 512) * 512 + 1024, b"\0"))


def explore(served: Any) -> int:
    errors = 0
    waiting = [""]
    for _ in range(VISITS):
        if not waiting:
            break
        path = waiting.pop(0)
        for file in served.listing(path)[:20]:
            below = f"{path}/{file.name}"
            if file.attributes & FileAttributes.DIRECTORY:
                waiting.append(below)
            else:
                errors += read_some(served, below)
    assert len(served.server.points) == 0
    return errors


def read_some(served: Any, path: str) -> int:
    opened = served.request(Operation.OPEN, path)
    if opened.error:
        assert opened.error in ALLOWED
        return 1
    errors = 0
    size = opened.registers.ecx | opened.registers.edx << 32
    for position in sorted({0, size // 2, max(0, size - 1)}):
        start, data, answer = served.read_extract(opened.registers.eax, position, 50_000)
        assert answer.error in ALLOWED | {ErrorCode.OK}
        errors += answer.error is not ErrorCode.OK
        assert answer.error or start + len(data) <= size
        assert answer.error or position < start + len(data) or position >= size
    assert served.request(Operation.CLOSE, eax=opened.registers.eax).error is ErrorCode.OK
    return errors


@pytest.mark.timeout(60)
def test_no_damaged_archive_does_harm(image: bytearray, zip_client: Any) -> None:
    central = image.index(b"PK\1\2")
    end = image.rindex(b"PK\5\6")
    regions = [Region(central, end - central, 4), Region(end, 64, 1), Region(0, central, 1)]
    headers = [at for at in range(central, end) if image[at : at + 4] == b"PK\1\2"]

    def lie(generator: random.Random) -> None:
        """Give an entry impossible sizes, offsets or lengths."""
        at = generator.choice(headers) + generator.choice((8, 10, 20, 24, 28, 30, 42))
        image[at : at + 4] = generator.choice((0, 1, 0xFFFF, 0xFFFFFFF0, 2**31)).to_bytes(4, "little")

    damage = Damage(image, regions, lie)
    outcomes = outcomes_of(damage, zip_client, range(MUTANTS), explore, calls=CALLS, allocated=1 << 20)
    assert outcomes["mounted"] > MUTANTS // 2, outcomes
    assert outcomes["damaged"] > MUTANTS // 5, outcomes


@pytest.mark.parametrize("left", [0, 1, 21, 22, 23, 100, 1023])
def test_an_archive_that_was_cut_off_before_its_end_record_is_refused_by_name_and_else_read_as_by_zipfile(
    image: bytearray, zip_client: Any, left: int, some_of: Any
) -> None:
    """The rest is what lies after the cut, in sectors, and `left` bytes of its first one."""
    end = image.rindex(b"PK\5\6") + 22 + len(b"mutant")
    for sectors in some_of(range(len(image) // 512 + 1), 50):
        cut = max(0, len(image) - sectors * 512 - left)
        data = bytes(image[:cut])
        padded = data.ljust(-(-max(cut, 1) // 512) * 512, b"\0")
        ZipServer.probe(padded[:65536])
        if cut < end - len(b"mutant"):
            with pytest.raises(zipfile.BadZipFile):
                zipfile.ZipFile(io.BytesIO(data))
            with pytest.raises(MountError, match=r"no end of|zeros|does not fit"):
                zip_client(padded)
            continue
        served = zip_client(padded)
        with zipfile.ZipFile(io.BytesIO(data)) as theirs:
            assert len(theirs.namelist()) == 12
            for name in theirs.namelist():
                assert served.contents(name) == theirs.read(name)
