"""System use entries by hand: ones that genisoimage never writes, and invalid ones."""

import pytest
from callgate.server import complete
from callgate.server.iso9660.rock_ridge import Posix, SystemUse, sharing
from callgate.server.iso9660.structures import long_time, short_time


class Area:
    """A volume of which sector n is full of entries that lead back to it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads = 0

    async def read(self, sector: int, count: int) -> bytes:
        self.reads += 1
        return self.data[sector * 512 : (sector + count) * 512].ljust(count * 512, b"\0")


def entry(signature: bytes, data: bytes) -> bytes:
    return signature + bytes((len(data) + 4, 1)) + data


def both_endian(number: int) -> bytes:
    return number.to_bytes(4, "little") + number.to_bytes(4, "big")


def parse(area: bytes, volume: bytes = b"") -> tuple[Posix, list[str]]:
    notes: list[str] = []
    reader = SystemUse(Area(volume), 2048, 1000, 0)
    return complete(reader.posix(area, notes.append)), notes


def test_a_rock_ridge_name_in_several_entries_is_put_together() -> None:
    area = entry(b"NM", b"\1first") + entry(b"PX", both_endian(0o100755)) + entry(b"NM", b"\0 second")
    posix, notes = parse(area)
    assert posix.name == "first second"
    assert posix.mode == 0o100755
    assert notes == []


@pytest.mark.parametrize(
    ("parts", "target"),
    [
        ([b"\0", b"\x08\0"], "/"),
        ([b"\0", b"\x08\0\0\3usr"], "/usr"),
        ([b"\0", b"\4\0\2\0\0\1a"], ".././a"),
        ([b"\1", b"\0\1a\1\3com", b"\0", b"\0\6ponent\0\1b"], "a/component/b"),
        ([b"\1", b"\0\1a", b"\0", b"\0\1b"], "a/b"),
    ],
)
def test_rock_ridge_links_are_put_together_from_components(parts: list[bytes], target: str) -> None:
    area = b"".join(entry(b"SL", parts[at] + parts[at + 1]) for at in range(0, len(parts), 2))
    assert parse(area)[0].target == target


def test_continuation_areas_are_followed_and_one_that_leads_to_itself_ends() -> None:
    volume = bytearray(8192)
    area = entry(b"NM", b"\1a") + entry(b"CE", both_endian(1) + both_endian(100) + both_endian(60))
    second = entry(b"NM", b"\0b") + entry(b"CE", both_endian(1) + both_endian(100) + both_endian(60))
    volume[2148 : 2148 + len(second)] = second
    posix, notes = parse(area, bytes(volume))
    assert posix.name == "ab"
    assert notes == ["its continuation areas do not end"]


def test_a_system_use_entry_of_impossible_length_ends_the_area() -> None:
    for length in (0, 3, 200):
        posix, notes = parse(entry(b"NM", b"\0name") + b"PX" + bytes((length, 1)) + bytes(8))
        assert posix.name == "name"
        assert len(notes) == 1


def test_the_system_use_protocol_is_announced_by_two_check_bytes() -> None:
    assert sharing(b"SP\x07\x01\xbe\xef\x0e") == 14
    assert sharing(b"SP\x07\x01\xbe\xee\x0e") is None
    assert sharing(b"") is None


def test_times_of_both_forms_are_converted_to_utc() -> None:
    assert short_time(bytes((100, 1, 1, 2, 0, 0, 8))) == 946_684_800
    assert long_time(b"2000010101000000\x04") == 946_684_800
    assert short_time(bytes((100, 13, 1, 2, 0, 0, 8))) == 0
    assert short_time(bytes((100, 1))) == 0
    assert long_time(b"0000000000000000\0") == 0
    assert long_time(b"2000\xb2\xb20101000000\0") == 0
