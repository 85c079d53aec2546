"""FAT volumes whose partition is shorter than they say: existing sectors are served, the rest are I/O errors."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import MountError
from callgate.server.pieces import cut, cut_hole, piece, within

FORMATS = {12: (1440, "-F", "12"), 16: (9000, "-F", "16", "-s", "1"), 32: (36_000, "-F", "32", "-s", "1")}
FILL = bytes(range(256)) * 200


@pytest.fixture(params=sorted(FORMATS))
def volume(request: pytest.FixtureRequest, fat_image: Callable[..., Any]) -> Any:
    """A volume with a file at its beginning, a directory and a file further on, and one last file."""
    image = fat_image(*FORMATS[request.param])
    image.put("FIRST.TXT", b"first\n")
    image.mkdir("DIR")
    image.put("DIR/INNER.TXT", b"inner\n")
    image.put("FILL.BIN", FILL)
    image.put("LAST.TXT", b"last\n")
    return image


def cluster_of(served: Any, name: str) -> int:
    """Return the first cluster of a directory in the root."""
    return int(served.rehearsal.drive(served.server.volume.find(name)).cluster)


def test_data_before_the_end_of_a_truncated_volume_are_read_and_the_rest_is_an_io_error(
    volume: Any, client: Any
) -> None:
    data = volume.read()
    whole = client(data)
    layout = whole.server.volume.layout
    number = whole.request(Operation.OPEN, "FILL.BIN").registers.eax
    first = whole.read_extract(number, 0, 512)[2].sectors[0][0]
    sectors = first + 10
    served = client(data[: sectors * 512])
    said = f"the volume has {layout.sectors} sectors of 512 bytes, and the partition {sectors} (a truncated image?)"
    assert served.server.take_reports()[0] == f"d0p1: {said}; what lies beyond cannot be read"
    assert {file.name for file in served.listing("")} == {"FIRST.TXT", "DIR", "FILL.BIN", "LAST.TXT"}
    assert served.contents("FIRST.TXT") == b"first\n"
    assert served.contents("DIR/INNER.TXT") == b"inner\n"
    number = served.request(Operation.OPEN, "FILL.BIN").registers.eax
    assert served.read_extract(number, 0, 1 << 20)[:2] == (0, FILL[: 10 * 512])
    assert served.read_extract(number, 10 * 512 - 1, 1 << 20)[:2] == (9 * 512, FILL[9 * 512 : 10 * 512])
    for path, position in (("FILL.BIN", 10 * 512), ("LAST.TXT", 0)):
        number = served.request(Operation.OPEN, path).registers.eax
        assert served.read_extract(number, position, 1 << 20)[2].error is ErrorCode.IO_ERROR
        (report,) = served.server.take_reports()
        assert report.endswith(f"byte {position} lies past the end of the partition of {sectors} sectors")


def test_a_directory_past_the_end_of_a_truncated_volume_is_an_io_error(volume: Any, client: Any) -> None:
    data = volume.read()
    whole = client(data)
    served = client(data[: whole.server.volume.layout.sector_of(cluster_of(whole, "DIR")) * 512])
    assert served.request(Operation.LOCK_DIRECTORY, "DIR").error is ErrorCode.IO_ERROR
    assert served.request(Operation.OPEN, "DIR/INNER.TXT").error is ErrorCode.IO_ERROR


def test_a_directory_that_passes_the_end_of_a_truncated_volume_is_listed_up_to_there(
    fat_image: Callable[..., Any], client: Any
) -> None:
    image = fat_image(1440, "-F", "12", "-s", "1")
    image.mkdir("DIR")
    for number in range(20):  # two clusters of 16 entries, of which two are the dots
        image.put(f"DIR/{number:08}", b"")
    data = image.read()
    whole = client(data)
    cluster = cluster_of(whole, "DIR")
    served = client(data[: whole.server.volume.layout.sector_of(cluster) * 512 + 512])
    assert len(served.listing("DIR")) == 14
    said = f"directory /DIR is damaged: its cluster {cluster + 1} lies past the end"
    assert said in served.server.take_reports()[1]
    assert served.request(Operation.OPEN, "DIR/00000019").error is ErrorCode.CORRUPT


def test_a_volume_without_all_of_its_fats_and_root_directory_is_refused(volume: Any, client: Any) -> None:
    data = volume.read()
    layout = client(data).server.volume.layout
    root = layout.sector_of(layout.root_cluster) + 1 if layout.root_cluster else layout.root_start + 1
    assert "FIRST.TXT" in {file.name for file in client(data[: root * 512]).listing("")}
    with pytest.raises(MountError, match=r"BPB_TotSec\d\d is .* the volume is larger than its partition .*truncated"):
        client(data[: (root - 1) * 512])


def test_sector_entries_are_cut_where_the_partition_ends() -> None:
    entries = [*cut(0, 3, 21), *cut_hole(0, 9), *cut(0, 40, 4)]
    assert within(entries, 44) == entries
    assert [piece(entry) for entry in within(entries, 20)] == [(3, 5), (8, 8), (16, 4)]
    assert [piece(entry) for entry in within(entries, 16)] == [(3, 5), (8, 8)]
    assert [piece(entry) for entry in within(entries, 30)][-2:] == [(None, 8), (None, 1)]
    assert within(entries, 3) == []
