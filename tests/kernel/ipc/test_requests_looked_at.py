"""Requests and structures as a person looks at them."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.layout import field_names, layouts, size_of
from callgate.kernel.abi.message import SlotState
from callgate.kernel.abi.selectors import GDT_FIRST_ENDPOINT
from callgate.kernel.machine.observation.stream import Event
from callgate.kernel.machine.observation.structures import Structure
from callgate.kernel.system import System, SystemOptions, boot
from callgate.tools.bench.ipc import Bench


@pytest.fixture(scope="module")
def at_load() -> Iterator[System]:
    """The shell's FREE_SPACE of d0p1 has just come to the server, which is about to load the registers."""
    with boot(demo_image(cache_directory()), options=SystemOptions(commands="df")) as system:
        while (request := system.request()) is None or request.operation != "FREE_SPACE" or request.endpoint != "d0p1":
            system.run(until="load")
        yield system


def test_a_request_says_whose_it_is_and_what_it_asks_for(at_load: System) -> None:
    request = at_load.request()
    assert request is not None
    assert (request.index, request.state, request.operation) == (0, SlotState.SERVED, "FREE_SPACE")
    assert (request.client and request.client.name, request.server and request.server.process.endpoint) == ("shell", 1)
    assert request.message is not None
    assert request.message.operation is Operation.FREE_SPACE
    assert request.record.linear == 0xA002_0000
    assert repr(request).startswith("<slot 0 of d0p1: SERVED, client 12 'shell', page 0x")


def test_client_and_server_see_the_same_request(at_load: System) -> None:
    mine = at_load.request("shell")
    assert mine is not None
    assert repr(mine) == repr(at_load.request())
    assert at_load.request("idle") is None


def test_a_request_is_known_at_each_event_on_its_way_whose_thread_has_it_in_hand() -> None:
    kinds = {f"ipc.{kind}" for kind in ("take", "fill", "post", "fetch", "map", "reply", "unmap", "wake", "reload")}
    seen: set[tuple[str, str]] = set()
    with boot(demo_image(cache_directory()), options=SystemOptions(commands="df")) as system:

        def look(event: Event) -> None:
            running = system.kernel.scheduler.running
            request = system.request()
            assert request is not None, event
            assert request.index == event.fields["slot"]
            endpoint = system.kernel.state.endpoints.by_number[system.machine.cpu.gs // 8 - GDT_FIRST_ENDPOINT]
            assert request.endpoint == endpoint.name
            assert running in (request.client, request.server)
            assert (request.message is None) is (event.kind == "ipc.take")
            if event.kind == "ipc.fill":
                assert request.operation == Operation(event.fields["operation"]).name
            seen.add((event.kind, running.name))

        system.machine.stream.subscribe(look, sorted(kinds))
        system.run()
        assert system.machine.ledger.fast_requests > system.machine.ledger.fast_replies > 0
    assert {kind for kind, _ in seen} == kinds
    assert {("ipc.take", "shell"), ("ipc.fetch", "rom"), ("ipc.fetch", "hosted:d0p1"), ("ipc.wake", "shell")} < seen


@pytest.mark.parametrize("program", ["bench_client", "bench_batch"])
def test_the_message_of_a_request_is_known_at_each_instruction_from_its_filling_on(program: str) -> None:
    bench = Bench(clients=1, program=program)
    with closing(bench):
        machine = bench.system.machine
        bench.system.run(fuel=20_000)
        bench.system.run(until="take")
        fills = {site.address for site in bench.kernel.image.events if site.name == "ipc.fill"}
        filled, known = False, []
        while (request := bench.system.request()) is not None and request.state is SlotState.TAKEN:
            filled = filled or machine.cpu.eip in fills
            known.append(request.message is not None)
            assert known[-1] is filled, hex(machine.cpu.eip)
            machine.step()
        assert {False, True} == {*known}


def test_an_endpoint_is_known_by_name_number_and_file_system(at_load: System) -> None:
    assert [len(at_load.slots(name)) for name in ("d0p1", "1", "fat")] == [32] * 3
    assert [slot.message is None for slot in at_load.slots("d0p1")] == [False] + [True] * 31
    assert at_load.slots("d0p1")[5].operation == ""
    with pytest.raises(KeyError, match="no endpoint 'd0p7'; there is d0p1, d0p2"):
        at_load.slots("d0p7")


def test_a_structure_shows_names_for_numbers_and_leaves_zeros_out(at_load: System) -> None:
    endpoint = at_load.kernel.state.endpoints.by_number[1]
    shown = repr(at_load.machine.structure("Endpoint", 0xC000_0000 + endpoint.block))
    assert "+0x34c state          [0]=SERVED" in shown
    assert "+0x200 unused         0xfffffffe" in shown
    assert "+0x380 tokens         32 times 0" in shown


def test_an_unknown_name_is_told_with_those_like_it(at_load: System) -> None:
    with pytest.raises(KeyError, match="no structure 'Endpiont'; there is Endpoint"):
        at_load.machine.structure("Endpiont", "task_state")
    with pytest.raises(AttributeError, match="TaskState has no field 'eps0'; there is esp0"):
        _ = at_load.machine.structure("TaskState", "task_state").eps0
    with pytest.raises(KeyError, match="no endpoint 'disk'; there is rom, d0p1"):
        at_load.slots("disk")


def test_every_layout_can_be_read_and_printed_whatever_bytes_there_are() -> None:
    for layout in layouts().values():
        for byte in (0, 0xFF, 0x5A):
            structure = Structure(layout, bytes([byte]) * size_of(layout), 0)
            assert len(repr(structure).splitlines()) == 1 + len(list(field_names(layout)))
