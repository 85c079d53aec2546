"""Snapshots restore all state that a guest can see, any number of times, in any order."""

import resource
import time
from pathlib import Path

import pytest
from callgate.kernel.abi.memory import HIGH_MEMORY, PAGE_SIZE
from callgate.kernel.machine import Machine
from callgate.kernel.machine.memory.ram import FEW
from callgate.kernel.machine.snapshot import NotQuiescent


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def state(machine):
    return (
        machine.cpu.registers(),
        machine.clock.now,
        machine.clock.retired,
        machine.ram.read(0, 8 << 20),
        machine.ram.read(1 << 32, 1 << 20),
        machine.ledger.counts().as_dict(),
        machine.events.save(),
        {name: device.save() for name, device in machine.devices.items()},
    )


def test_a_restored_machine_runs_the_same_run_again(board):
    machine = board.machine
    board.boot("l: inc eax; mov [0xc0300000 + eax*8], eax; push eax; pop ebx; jmp l")
    machine.run(fuel=500)
    machine.ram.put_u32((1 << 32) + 64, 77)
    machine.timer.port_write(0x43, 1, 0x34)
    machine.timer.port_write(0x40, 1, 200)
    machine.timer.port_write(0x40, 1, 0)
    snapshot = machine.snapshot()
    before = state(machine)
    machine.run(fuel=1000)
    after = state(machine)
    for _ in range(3):
        machine.ram.put_u32((1 << 32) + 64, 78)
        machine.restore(snapshot)
        assert state(machine) == before
        machine.run(fuel=1000)
        machine.ram.put_u32((1 << 32) + 64, 77)
        assert state(machine) == after


def test_idle_time_and_the_last_exceptions_come_back_too(board):
    machine = board.machine
    board.boot("int 0x80; sti; l: hlt; jmp l")
    machine.run(until=lambda: bool(board.reports), fuel=1000)
    machine.clock.idle = 12345
    snapshot = machine.snapshot()
    recent, now = list(machine.traps.recent), machine.clock.now
    assert [event.name for event in recent] == ["int 0x80"]
    machine.clock.idle += 1000
    machine.traps.recent.clear()
    machine.restore(snapshot)
    assert (list(machine.traps.recent), machine.clock.now) == (recent, now)


def test_older_and_newer_snapshots_can_be_restored_in_any_order(bare):
    machine = bare("l: inc eax; mov [0x9000], eax; jmp l")
    snapshots = []
    for _ in range(4):
        machine.run(fuel=30)
        snapshots.append((machine.snapshot(), machine.cpu.eax, machine.ram.u32(0x9000)))
    for index in (3, 0, 2, 2, 1, 3, 0):
        snapshot, eax, word = snapshots[index]
        machine.restore(snapshot)
        assert (machine.cpu.eax, machine.ram.u32(0x9000)) == (eax, word)
        machine.run(fuel=7)
        again = machine.snapshot()
        machine.run(fuel=3)
        machine.restore(again)
        assert machine.clock.retired == snapshot.clock + 7


def test_translated_code_follows_memory_back(bare, assemble):
    machine = bare("mov eax, 1; hlt")
    machine.run()
    snapshot = machine.snapshot()
    machine.ram.write(0x1000, assemble("mov eax, 2; hlt"))
    machine.code_changed(0x1000, 6)
    machine.cpu.eip = 0x1000
    machine.run()
    assert machine.cpu.eax == 2
    machine.restore(snapshot)
    machine.cpu.eip = 0x1000
    machine.run()
    assert machine.cpu.eax == 1


def test_code_that_the_guest_rewrote_is_forgotten_too(bare, assemble):
    machine = bare("mov byte ptr [0x2001], 7; mov eax, 0x2000; call eax; hlt")
    machine.ram.write(0x2000, assemble("mov ebx, 5; ret"))
    snapshot = machine.snapshot()
    machine.run()
    assert machine.cpu.ebx == 7
    machine.restore(snapshot)
    machine.cpu.eip = 0x1007
    machine.run()
    assert machine.cpu.ebx == 5


def test_restoring_takes_less_than_a_millisecond_of_cpu_time_for_64_mib():
    with Machine() as machine:
        snapshot = machine.snapshot()
        times = []
        for _ in range(20):
            for page in range(64):
                machine.ram.put_u32(0x20_0000 + page * 4096, page)
            begin = time.process_time()
            machine.restore(snapshot)
            times.append(time.process_time() - begin)
        assert sorted(times)[10] < 0.001


@pytest.mark.thorough(only=True)
def test_thousands_of_restores_leak_nothing(bare):
    machine = bare("mov eax, [0x3000]; inc eax; mov [0x3000], eax; hlt")
    snapshot = machine.snapshot()

    def rounds(count):
        for _ in range(count):
            machine.restore(snapshot)
            machine.run()
            assert machine.ram.u32(0x3000) == 1

    rounds(300)
    files, memory = open_files(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rounds(1500)
    assert open_files() == files
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 1024


def test_discarded_snapshots_close_their_files(machine):
    files = open_files()
    for _ in range(50):
        machine.snapshot()
    assert open_files() <= files + 4


def test_a_snapshot_is_refused_in_the_middle_of_a_host_call_or_exception(machine):
    machine.quiescent = lambda: "2 coroutines are alive"
    with pytest.raises(NotQuiescent, match="2 coroutines are alive"):
        machine.snapshot()


def test_a_host_call_cannot_take_a_snapshot(bare):
    machine = bare("out 0x90, eax; hlt")
    machine.host_calls.register(0x90, lambda _: machine.snapshot(), "snap")
    with pytest.raises(NotQuiescent, match="running"):
        machine.run()


def test_a_snapshot_belongs_to_its_machine(machine):
    with Machine(memory=8 << 20, high_memory=4 << 20) as other:
        snapshot = other.snapshot()
        with pytest.raises(ValueError, match="only by the machine"):
            machine.restore(snapshot)


def test_policy_can_save_state_in_a_snapshot(machine):
    state = {"threads": [1, 2]}
    machine.participants["policy"] = (lambda: state, lambda saved: (state.clear(), state.update(saved)))
    snapshot = machine.snapshot()
    state["threads"].append(3)
    machine.restore(snapshot)
    assert state == {"threads": [1, 2]}


@pytest.mark.parametrize("quick", [True, False])
def test_only_code_in_pages_that_were_written_is_compared_where_the_host_tells_them_quickly(bare, assemble, quick):
    machine = bare("inc eax; nop; hlt")
    snapshot = machine.snapshot()
    backing = snapshot.memory.backings[0]
    machine.ram.regions[0].page_map.quick = quick
    machine.step()
    machine.restore(snapshot)
    assert (0x1000 not in backing.pages, backing.pages == {}) == (quick, quick)
    machine.ram.write(0x1000, assemble("dec eax"))
    machine.code_changed(0x1000, 1)
    machine.step()
    assert machine.cpu.eax == 0xFFFF_FFFF
    machine.restore(snapshot)
    assert 0x1000 in backing.pages
    assert len(backing.pages) == 1 or not quick
    machine.step()
    assert machine.cpu.eax == 1
    machine.ram.write(0x8000, b"x")
    machine.restore(snapshot)
    assert machine.ram.u8(0x8000) == 0


def test_what_a_restore_hands_out_may_be_kept_and_changed(machine):
    held = []
    machine.participants["policy"] = (lambda: (1, [2, (3, [4])]), held.append)
    snapshot = machine.snapshot()
    for _ in range(3):
        machine.restore(snapshot)
        assert held.pop() == (1, [2, (3, [4])])
        machine.restore(snapshot)
        held.pop()[1][1][1].append("changed")


@pytest.mark.parametrize("pages", [1, FEW // PAGE_SIZE, FEW // PAGE_SIZE + 1, 300])
def test_few_written_pages_and_many_come_back_time_after_time(machine, pages):
    for page in range(pages):
        machine.ram.put_u32(0x20000 + page * 2 * PAGE_SIZE, page + 1)
    snapshot = machine.snapshot()
    kept = machine.ram.read(0, 8 << 20)
    for filling in (b"a", b"b"):
        for page in range(pages):
            machine.ram.write(0x20000 + page * 2 * PAGE_SIZE, PAGE_SIZE * filling)
        machine.ram.write(0x3000, filling)
        machine.restore(snapshot)
        assert machine.ram.read(0, 8 << 20) == kept


def test_pages_written_on_both_sides_of_the_end_of_low_memory_are_told_apart(machine):
    ram = machine.ram
    snapshot = machine.snapshot()
    ram.write(ram.low_size - 2 * PAGE_SIZE, b"x" * 2 * PAGE_SIZE)
    ram.write(HIGH_MEMORY, b"y" * PAGE_SIZE)
    end = ram.low_size
    assert [region.written() for region in ram.regions] == [[(end - 2 * PAGE_SIZE, end)], [(0, PAGE_SIZE)]]
    machine.restore(snapshot)
    assert (ram.u8(end - 1), ram.view(HIGH_MEMORY, 1)[0]) == (0, 0)
