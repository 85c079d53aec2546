"""A server that reuses memory which it has given, or gives half of a page: readers see the file and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.servers import volumes
from callgate.server.gate import allocate
from callgate.server.hosted import operation
from callgate.server.message import Object, Registers, RegisterValues, Reply, Request

Sessions = Callable[..., Any]
BEGINNING = 3 * 512
NINE = 9
Layout = synthetic.Layout
IMAGE = synthetic.disk(8192)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The files of the synthetic disk, for the test to fill."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    for name, value in (("files", {}), ("released", []), ("held", {})):
        monkeypatch.setattr(synthetic.Synthetic, name, value)
    return synthetic.Synthetic.files


def read(session: Sessions, way: str, name: str, **options: Any) -> Any:
    made = session(MemoryMedium(IMAGE), programs=[("reader", f"{way}/d0/{name}")], **options)
    assert made.run().reason == "halt"
    return made


class Reusing(synthetic.Synthetic):
    """Gives the first three sectors of a file from its own memory, and writes there when they are no longer used."""

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        if request.registers.eax >= BEGINNING:
            return await super().read(request)
        address = await allocate(BEGINNING)
        self.memory.write(address, next(iter(self.files.values())).content(IMAGE)[:BEGINNING])
        self.held[1] = address
        return Object(address, BEGINNING, RegisterValues(eax=BEGINNING, edi=1))

    @operation(Operation.RELEASE)
    async def release(self, request: Request) -> Reply:
        address = self.held.pop(request.registers.eax)
        self.released.append(address)
        self.memory.write(address, bytes(BEGINNING))
        return Registers(request.registers)


@pytest.mark.parametrize("map_edges", [False, True])
def test_the_beginning_of_a_page_stays_the_readers_when_its_server_reuses_the_memory(
    session: Sessions, files: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *, map_edges: bool
) -> None:
    """The rest of the page comes from a disk so slow that the server has heard of it before."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Reusing])
    files["f"] = Layout(100 * 512, [(4096, 100)])  # which mounting has not read
    made = read(session, "p", "f", map_edges=map_edges, latency=Latency(command=1_000_000))
    assert len(synthetic.Synthetic.released) == 1
    assert made.output == files["f"].content(IMAGE)
    assert made.unaccounted() == []


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize(("begin", "most", "shift"), [(11, NINE, 3 * 512), (12, NINE - 1, 4 * 512)])
def test_a_reply_that_ends_within_a_page_is_cut_and_the_page_is_requested_again(
    session: Sessions, files: dict[str, Any], begin: int, most: int, shift: int
) -> None:
    """Clusters of half a page: else such a page would be put together twice, and readers be shown half of it first."""
    files["f"] = Layout(64 * 2048, [(begin + 16 * index, 4) for index in range(64)], most)
    made = read(session, "p", "f")
    assert made.output == files["f"].content(IMAGE)
    assert {(position + shift) % 4096 for position, _ in files["f"].reads[1:]} == {0}
    assert made.counters.copied_pages == -(-(64 * 2048 + shift) // 4096)
