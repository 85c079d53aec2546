"""Hundreds of ISO 9660 volumes with garbled metadata: never a fault, never a loop, never a byte from elsewhere."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from damaged_volumes import MUTANTS, Damage, Region, outcomes_of

VISITS = 40  # directories and files tried in one mutant
CALLS = 4000
ALLOWED = {
    ErrorCode.CORRUPT,
    ErrorCode.IO_ERROR,
    ErrorCode.NOT_FOUND,
    ErrorCode.NOT_DIRECTORY,
    ErrorCode.IS_DIRECTORY,
    ErrorCode.NOT_SUPPORTED,
}


@pytest.fixture(params=[("-J",), ("-R",)], ids=["joliet", "rockridge"])
def image(request: pytest.FixtureRequest, tmp_path: Path, host_tool: Callable[..., str]) -> bytearray:
    root = tmp_path / "tree"
    (root / "/".join(f"d{number}" for number in range(10))).mkdir(parents=True)
    for number in range(4):
        (root / f"{number} {'long name ' * 5 * number}.text").write_bytes(bytes([number]) * 3000)
        (root / f"d0/link{number}").symlink_to(f"../d0/d1/{'up/' * number}../link{number + 1}")
        (root / f"d0/d1/file{number}").write_bytes(b"x" * 700)
    (root / "d0/long").symlink_to("/".join("component" * 3 for _ in range(8)))
    path = tmp_path / "cd.iso"
    host_tool("genisoimage", "-quiet", "-V", "MUTANT", *request.param, "-D", "-joliet-long", "-o", path, root)
    return bytearray(path.read_bytes()[: 600 * 1024])


def directories(image: bytearray) -> list[int]:
    """Return the offsets of the logical sectors that begin with the record of a directory itself."""
    return [at for at in range(36864, len(image), 2048) if image[at + 32 : at + 34] == b"\1\0" and image[at + 25] & 2]


def explore(served: Any) -> int:
    errors = 0
    waiting = [""]
    for _ in range(VISITS):
        if not waiting:
            break
        path = waiting.pop(0)
        answer = served.request(Operation.LOCK_DIRECTORY, path)
        if answer.error:
            assert answer.error in ALLOWED
            errors += 1
            errors += read_some(served, path)
            continue
        assert served.request(Operation.UNLOCK_DIRECTORY, edx=answer.registers.edx).error is ErrorCode.OK
        for file in served.listing(path)[:20]:
            waiting.append(f"{path}/{file.name}")
            assert file.size == 0 or not file.attributes & FileAttributes.DIRECTORY
    return errors


def read_some(served: Any, path: str) -> int:
    opened = served.request(Operation.OPEN, path)
    if opened.error:
        assert opened.error in ALLOWED
        return 1
    errors = 0
    size = opened.registers.ecx | opened.registers.edx << 32
    for position in sorted({0, size // 2, max(0, size - 1)}):
        _, data, answer = served.read_extract(opened.registers.eax, position, 100_000)
        assert answer.error in (ErrorCode.OK, ErrorCode.CORRUPT, ErrorCode.IO_ERROR)
        errors += answer.error is not ErrorCode.OK
        read = [sector for first, count in answer.sectors for sector in range(first, first + count)]
        assert all(0 <= sector < served.rehearsal.geometry.sectors for sector in read)
        assert len(data) <= len(read) * 512
    assert served.request(Operation.CLOSE, eax=opened.registers.eax).error is ErrorCode.OK
    return errors


@pytest.mark.timeout(60)
def test_no_damaged_iso_image_does_harm(image: bytearray, iso_client: Any) -> None:
    folders = directories(image)
    assert len(folders) > 8
    regions = [Region(32768, 256, 1), Region(34816, 256, 1), *(Region(at, 1024, 1) for at in folders[:12])]

    def point(generator: random.Random) -> None:
        """Make a record's extent any other one's, or far away."""
        at = generator.choice(folders)
        for _ in range(generator.randrange(8)):
            at += image[at]
        image[at + 2 : at + 6] = generator.choice((generator.choice(folders) // 2048, 2**31)).to_bytes(4, "little")

    damage = Damage(image, regions, point)
    outcomes = outcomes_of(damage, iso_client, range(MUTANTS), explore, calls=CALLS, allocated=4 << 20)
    assert outcomes["mounted"] > MUTANTS // 2, outcomes
    assert outcomes["damaged"] > MUTANTS // 30, outcomes
