"""The shell's sort of a directory, against Python's own."""

import random
from typing import Any

import pytest
from callgate.kernel.abi.directory import DirectoryEntry
from callgate.kernel.abi.layout import size_of

SOURCES = '        .include "text.asm"\n        .include "sort_entries.asm"\n'
ARRAY, RECORDS = 0x20000, 0x30000
MOST = 200


def record(name: bytes) -> bytes:
    """Return a directory's record of a name."""
    length = -(-(size_of(DirectoryEntry) + len(name)) // 8) * 8
    return (bytes(DirectoryEntry(length=length, name_length=len(name))) + name).ljust(length, b"\0")


class Sorter:
    """An array of entries in a bare CPU's memory."""

    def __init__(self, cpu: Any) -> None:
        self.cpu = cpu
        cpu.load(SOURCES)

    def sort(self, names: list[bytes]) -> Any:
        """Sort, check against Python, return the call's result."""
        addresses, at = [], RECORDS
        for name in names:
            data = record(name)
            self.cpu.write(at, data)
            addresses.append(at)
            at += len(data)
        room = 16 * len(names)
        array = b"".join(address.to_bytes(4, "little") for address in addresses)
        self.cpu.write(ARRAY, array.ljust(room, b"\xee") + b"\xdd" * 16)
        result = self.cpu.call("sort_entries", esi=ARRAY, ecx=len(names))
        got = self.cpu.read(ARRAY, len(array))
        order = [int.from_bytes(got[index : index + 4], "little") for index in range(0, len(got), 4)]
        by_address = dict(zip(addresses, names, strict=True))
        # Stable, so that names that differ in case only stay as the server has them.
        assert order == sorted(addresses, key=lambda address: by_address[address].lower())
        assert self.cpu.read(ARRAY + room, 16) == b"\xdd" * 16, "data were written after the room"
        return result


@pytest.fixture
def sorter(bare_cpu: Any) -> Sorter:
    return Sorter(bare_cpu)


def shapes() -> dict[str, list[bytes]]:
    source = random.Random(24)
    ramp = [b"name%04d.txt" % number for number in range(MOST)]
    return {
        "sorted": ramp,
        "reversed": ramp[::-1],
        "shuffled": source.sample(ramp, MOST),
        "sawtooth": [name for part in range(4) for name in ramp[part::4]],
        "same name": [b"x"] * 9,
        "cases": [b"b", b"A", b"a", b"B", b"a", b"C", b"A"],
        "prefixes": [b"aaa", b"a", b"aa", b"", b"aaaa", b"AA"],
        "bytes above 127": ["ä".encode(), b"z", "Ä".encode(), "日".encode(), b"~"],
        "every byte": [bytes([byte]) for byte in source.sample(range(256), 256)],
        "every byte after others": [b"ab" + bytes([byte]) + b"c" for byte in source.sample(range(256), 256)],
        "zeros": source.sample([b"a" + b"\0" * zeros + end for zeros in range(9) for end in (b"", b"\1", b"b")], 27),
        "all lengths": source.sample([b"abcdefghijkl"[:length] for length in range(13)] * 3, 39),
        "one group in another": source.sample([b"x" * length + b"y" for length in range(100)], 100),
        "long names alike": source.sample([b"n" * 240 + b"%03d" % number for number in range(60)], 60),
        "two groups by turns": [b"%s_2026_%03d.jpg" % (word, n) for n in range(90, 0, -1) for word in (b"VID", b"img")],
    }


@pytest.mark.parametrize("shape", shapes())
def test_entries_are_sorted_as_python_sorts_them(sorter: Sorter, shape: str) -> None:
    sorter.sort(shapes()[shape])


@pytest.mark.thorough(one_in=10)
@pytest.mark.parametrize("seed", range(20))
def test_random_names_of_any_number_are_sorted(sorter: Sorter, seed: int) -> None:
    source = random.Random(seed)
    for count in (*range(18), 31, 32, 33, 64, 100):
        sorter.sort([bytes(source.choices(b"abAB.", k=source.randrange(1, 5))) for _ in range(count)])


def test_the_cost_of_sorting_grows_little_faster_than_the_number_of_entries(sorter: Sorter) -> None:
    source = random.Random(1)
    names = [b"%04d" % number for number in range(MOST)]
    source.shuffle(names)
    few = sorter.sort(names[: MOST // 8]).instructions
    many = sorter.sort(names).instructions
    assert many < 16 * few, "eight times as many entries"


def test_sorting_compares_no_two_names_so_what_they_begin_with_alike_costs_one_look(sorter: Sorter) -> None:
    source = random.Random(1)
    names = [b"%04d" % number for number in range(MOST)]
    source.shuffle(names)
    short = sorter.sort(names).instructions
    long = sorter.sort([b"a name of 60 bytes".ljust(60, b".") + name for name in names]).instructions
    assert long - short < MOST * 20 * 30, "20 keys of each name, 30 instructions each"
