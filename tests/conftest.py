"""Shared by several areas' tests: programs of the host, damage to FAT volumes, leaks of a system."""

import gc
import os
import signal
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import host_programs
import pytest
from callgate.kernel.abi import constants
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.core.records import EndpointState
from callgate.kernel.system import System
from callgate.kernel.watching.leaks import leaks

T = TypeVar("T")
RARELY = (20_000, 10, 10)  # the garbage collector's thresholds; its own look at the young 30 times as often
IN_MEMORY = "/dev/shm"  # noqa: S108 - pytest makes a folder there that others cannot enter
ROOM_IN_MEMORY = 1 << 30  # bytes; all of the tests take 200 MiB
THOROUGH = bool(os.environ.get("CALLGATE_THOROUGH"))  # all cases of the tests that are marked so, not some


def pytest_configure() -> None:
    """Set signals as on a terminal: the parent of the tests may ignore them (nohup, `&` in a script).

    No garbage is collected until the tests have been: there is hardly any, and each look finds more objects.
    """
    gc.disable()
    keep_files_in_memory()
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def keep_files_in_memory() -> None:
    """Have `tmp_path` lie in memory where the host has room: to make 12,000 files on a disk costs 20 s of CPU time.

    PYTEST_DEBUG_TEMPROOT is pytest's own variable for where its folders lie; `--basetemp` goes before it.
    """
    if "PYTEST_DEBUG_TEMPROOT" in os.environ or not os.access(IN_MEMORY, os.W_OK):
        return
    state = os.statvfs(IN_MEMORY)
    if state.f_bavail * state.f_frsize >= ROOM_IN_MEMORY:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = IN_MEMORY


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("callgate's own tests")
    group.addoption(
        "--refresh-transcripts",
        action="store_true",
        help="write what the commands of tests/tools/transcripts and of README.md print now",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave cases of thorough tests out, but none of a test that is named on the command line.

    A test that takes `some_of` its cases has more of them, too: `-m thorough` chooses it.
    """
    for item in items:
        if "some_of" in getattr(item, "fixturenames", ()) and item.get_closest_marker("thorough") is None:
            item.add_marker(pytest.mark.thorough)
    if THOROUGH or any("::" in argument for argument in config.args):
        return
    seen: Counter[object] = Counter()
    kept, left_out = [], []
    for item in items:
        mark = item.get_closest_marker("thorough")
        test = item.nodeid.partition("[")[0]
        leave_out = mark is not None and (mark.kwargs.get("only") or seen[test] % mark.kwargs.get("one_in", 1))
        (left_out if leave_out else kept).append(item)
        seen[test] += 1
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def pytest_collection_finish() -> None:
    """Collected tests stay to the end: the garbage collector need not examine them, not even once.

    The constants of assembly sources are read once in a process: before a test has changed a limit for itself.
    """
    constants()
    gc.freeze()
    gc.set_threshold(*RARELY)
    gc.enable()


@pytest.fixture
def some_of() -> Callable[[Iterable[T], int], list[T]]:
    """Take one in `one_in` items: `some_of(range(120), 5)`; all of them if the tests are to be thorough."""
    return lambda cases, one_in: list(cases)[:: 1 if THOROUGH else one_in]


@pytest.fixture
def host_tool() -> Callable[..., str]:
    """Run a program of the host: `host_tool("mmd", "-i", image, "::/x")`; skip where it is not installed."""
    return host_programs.run


@pytest.fixture(scope="module", autouse=True)
def broken_invariants() -> Iterator[list[str]]:
    """Check the kernel's invariants in every system that is closed, before it goes (`Kernel.check`).

    What tests leave here belongs to a system that several tests of the module have used.
    """
    found: list[str] = []
    close = System.close

    def checked(system: System) -> None:
        if system.machine.handle is not None:
            found.extend(system.kernel.check())
        close(system)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(System, "close", checked)
        yield found
    assert found == []


class Current:
    """The test that runs.  To ask pytest's `request` for it takes a tenth of what pytest needs for a test."""

    item: pytest.Item


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    Current.item = item


@pytest.fixture(autouse=True)
def invariants_hold(broken_invariants: list[str]) -> Iterator[None]:
    """Fail a test whose systems broke an invariant of the kernel.

    A test that has broken one by hand says so: `@pytest.mark.breaks_invariants`.
    """
    yield
    found = broken_invariants[:]
    broken_invariants.clear()
    if Current.item.get_closest_marker("breaks_invariants") is None:
        assert found == []


@pytest.fixture
def find_leaks() -> Callable[[System], list[str]]:
    """Report the leaks of a system whose shell has ended."""
    return all_leaks


def all_leaks(system: System) -> list[str]:
    """Return what the kernel holds, and addresses that a server could read, as text."""
    kernel = system.kernel
    return leaks(kernel) + [
        f"{endpoint.name}: frame {frame:#x} in a message page"
        for endpoint in kernel.state.endpoints.by_number.values()
        for frame in addresses_left(system, endpoint)
    ]


def addresses_left(system: System, endpoint: EndpointState) -> list[int]:
    """Return frames of the server's memory that message pages name, which it will see again (rule 2)."""
    kernel = system.kernel
    frames = set(endpoint.process.pages.values()) if endpoint.process else set()
    pages = (kernel.machine.ram.read(frame, PAGE_SIZE) for frame in endpoint.frames.values())
    return [value for page in pages for (value,) in struct.iter_unpack("<Q", page) if value and value in frames]


class FatPatcher:
    """Edits an image's FATs and records by hand; knows the format by itself, not from the server."""

    def __init__(self, image: bytearray) -> None:
        self.image = image
        sector, reserved = self.word(11, 2), self.word(14, 2)
        self.fats = image[16]
        self.fat_bytes = (self.word(22, 2) or self.word(36, 4)) * sector
        self.fat_offset = reserved * sector
        self.cluster_bytes = image[13] * sector
        root_bytes = -(-self.word(17, 2) * 32 // sector) * sector
        self.root_offset = self.fat_offset + self.fats * self.fat_bytes
        self.data_offset = self.root_offset + root_bytes
        total = (self.word(19, 2) or self.word(32, 4)) * sector
        self.clusters = (total - self.data_offset) // self.cluster_bytes
        self.bits = 32 if self.word(22, 2) == 0 else 12 if self.clusters < 4085 else 16
        if self.bits == 32:
            self.root_offset = self.cluster_offset(self.word(44, 4))

    def word(self, offset: int, size: int) -> int:
        return int.from_bytes(self.image[offset : offset + size], "little")

    def set_word(self, offset: int, size: int, value: int) -> None:
        self.image[offset : offset + size] = value.to_bytes(size, "little")

    def cluster_offset(self, cluster: int) -> int:
        return self.data_offset + (cluster - 2) * self.cluster_bytes

    def fat(self, cluster: int) -> int:
        if self.bits == 12:
            pair = self.word(self.fat_offset + cluster * 3 // 2, 2)
            return pair >> 4 if cluster & 1 else pair & 0xFFF
        size = self.bits // 8
        return self.word(self.fat_offset + cluster * size, size)

    def set_fat(self, cluster: int, value: int, copies: range | None = None) -> None:
        for copy in copies or range(self.fats):
            base = self.fat_offset + copy * self.fat_bytes
            if self.bits == 12:
                offset = base + cluster * 3 // 2
                pair = self.word(offset, 2)
                pair = pair & 0xF | value << 4 if cluster & 1 else pair & 0xF000 | value
                self.set_word(offset, 2, pair)
            else:
                size = self.bits // 8
                self.set_word(base + cluster * size, size, value)

    def record(self, short: bytes, after: int = 0) -> int:
        """Return the offset of the record whose DIR_Name is ``short``."""
        offset = self.image.find(short, max(after, self.root_offset))
        while (offset - self.root_offset) % 32:
            offset = self.image.find(short, offset + 1)
        assert offset >= 0, short
        return offset

    def first_cluster(self, record: int) -> int:
        return self.word(record + 26, 2) | self.word(record + 20, 2) << 16

    def set_first_cluster(self, record: int, cluster: int) -> None:
        self.set_word(record + 26, 2, cluster & 0xFFFF)
        self.set_word(record + 20, 2, cluster >> 16)

    def chain(self, cluster: int) -> list[int]:
        clusters = []
        while 2 <= cluster < self.clusters + 2 and len(clusters) <= self.clusters:
            clusters.append(cluster)
            cluster = self.fat(cluster) & 0x0FFFFFFF
        return clusters


@pytest.fixture
def patcher() -> type[FatPatcher]:
    return FatPatcher
