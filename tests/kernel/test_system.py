"""A system as Python makes it: what it refuses, and what it says of itself."""

import pytest
from callgate.disk.media import MemoryMedium
from callgate.kernel.system import System, SystemOptions


@pytest.mark.parametrize("memory", [14 << 20, (16 << 20) + 4096, 770 << 20])
def test_low_memory_has_a_size_that_the_kernel_can_map(memory: int) -> None:
    with pytest.raises(ValueError, match="low memory is 16 MiB to 768 MiB, in steps of 2 MiB"):
        System(options=SystemOptions(memory=memory))


@pytest.mark.parametrize(("ide", "places"), [(True, 4), (False, 1)])
def test_a_disk_has_one_of_the_places_of_its_controller(ide: bool, places: int) -> None:
    with System([MemoryMedium(bytes(512))], SystemOptions(ide=ide, log=[].append)) as system:
        with pytest.raises(ValueError, match=f"there is no disk {places}; {places} could be there, from 0 on"):
            system.unplug(places)
        system.unplug(places - 1)


def test_a_system_shows_its_disks_and_how_it_has_ended() -> None:
    with System(options=SystemOptions(commands="exit 3", log=[].append)) as system:
        assert repr(system).startswith("<system, no disks, ")
        assert "ended" not in repr(system)
        system.run()
        assert ", ended with 3, " in repr(system)


@pytest.mark.parametrize("observed", [True, False])
def test_the_cost_of_operations_is_added_up_where_it_is_asked_for(observed: bool) -> None:
    options = SystemOptions(commands="ls /rom", observe_operations=observed, log=[].append)
    with System(options=options) as system:
        system.run()
        assert bool(system.statistics()["operations"]) == observed


def test_what_ring_3_touches_is_booked_to_servers_and_to_others() -> None:
    with System(options=SystemOptions(commands="ls /rom", log=[].append)) as system:
        kinds = []
        for event in ("ipc.fetch", "system_gate"):
            assert system.run(until=event).reason == "until"
            kinds.append(system.machine.ledger.user_kind)
        assert kinds == ["server", "client"]


def test_the_first_load_of_cr3_is_counted_although_paging_is_off_and_its_address_is_another() -> None:
    with System([], SystemOptions(shell=False)) as system:
        system.run(fuel=12)
        assert system.machine.cpu.eip < 0x1000_0000  # the next instructions too run where the loader has put them
        assert system.machine.ledger.cr3_loads == 1
