"""Files that are opened in turn and read from their beginning: OPEN, first data and the last CLOSE are one request."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageFile
from callgate.disk.media.faults import FaultInjecting
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.system import System
from callgate.server.mounted import MountedServer

FILES = 1000
REQUESTS, HOST_CALLS = 1.01, 7  # a file, at most


def content(index: int) -> bytes:
    return b"%d " % index * (index % 100)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("turn")
    for index in range(FILES):
        (folder / f"{index:04}.TXT").write_bytes(content(index))
    (folder / "BIG.BIN").write_bytes(bytes(range(256)) * 1200)
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=32 << 20)
    return out


def server_of(system: System) -> MountedServer[Any, Any]:
    (server,) = (one for one in system.kernel.hosted.servers.values() if isinstance(one, MountedServer))
    return server


def test_a_thousand_small_files_cost_a_request_each_and_at_most_seven_host_calls(
    boot: Callable[..., Any], image: Path
) -> None:
    before = boot("cd /d0; echo *.TXT", image, fast_path=True)
    done = boot("cd /d0; cat *.TXT", image, fast_path=True)
    assert done.output == b"".join(map(content, range(FILES)))
    costs = done.system.machine.ledger.counts() - before.system.machine.ledger.counts()
    assert costs.requests <= REQUESTS * FILES
    assert sum(costs.host_calls.values()) <= HOST_CALLS * FILES
    assert done.system.kernel.state.files.counters.requests == 0, "no READ"
    assert len(server_of(done.system).files) == 0, "the server has closed every one"
    assert done.leaks() == []


def test_the_last_file_is_closed_when_the_cpu_idles(boot: Callable[..., Any], image: Path) -> None:
    left: list[int] = []
    systems: list[System] = []

    def source(_limit: int) -> bytes | None:
        if systems:
            left.append(len(server_of(systems[0]).files))
        return next(lines, None)

    lines = iter([b"cat /d0/0001.TXT\n", b"cat /d0/0002.TXT /d0/0003.TXT\n"])
    done = boot(None, image, fuel=0, source=source)
    systems.append(done.system)
    done.system.run(fuel=50_000_000)
    assert left == [0, 0, 0], "at each wait for a line"
    assert done.leaks() == []


def test_small_files_that_lie_one_after_the_other_are_read_several_at_a_time(
    boot: Callable[..., Any], image: Path
) -> None:
    names = [f"/d0/{index:04}.TXT" for index in range(1, 65)]
    in_order = boot("cat " + " ".join(names), image)
    backwards = boot("cat " + " ".join(reversed(names)), image)
    commands = [done.system.machine.ledger.counts().host_calls["disk_done"] for done in (in_order, backwards)]
    assert commands[0] < commands[1] - 50, "each was a command for itself"
    read = [done.system.machine.ledger.counts().dma_bytes["read"] for done in (in_order, backwards)]
    assert read[0] - read[1] <= 16 * PAGE_SIZE, "at most so much that no file of these is in"


def test_a_big_file_is_read_from_its_beginning_with_one_request_less(boot: Callable[..., Any], image: Path) -> None:
    sizes = []
    for command in ("cat /d0/BIG.BIN", "hexdump /d0/BIG.BIN"):
        done = boot(command, image, fuel=3_000_000_000)
        sizes.append(done.system.kernel.state.files.counters.requests)
        assert done.leaks() == []
    assert sizes[0] == sizes[1] - 1


@pytest.mark.parametrize("which", range(4))
def test_a_bad_sector_is_an_error_of_its_own_file_alone_though_it_was_read_ahead(
    boot: Callable[..., Any], image: Path, which: int
) -> None:
    names = [f"/d0/{index:04}.TXT" for index in range(1, 20)]
    data = image.read_bytes()
    wanted = content(10 + which)
    assert data.count(wanted + b"\0") == 1
    bad = data.index(wanted + b"\0") // 512
    done = boot("cat " + " ".join(names), FaultInjecting(ImageFile(image), bad=[bad]))
    assert done.output.startswith(b"".join(map(content, range(1, 10 + which))))
    assert b"".join(map(content, range(11 + which, 20))) in done.output
    assert wanted not in done.output
    assert done.output.count(b"cat: ") == 1
    assert done.leaks() == []
