"""The machine in a REPL: stops, names, breakpoints, events, the ledger, Ctrl-C."""

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.cpu.descriptors import Gate, Segment
from callgate.kernel.machine.observation.event_sites import EventSite
from callgate.kernel.machine.observation.stream import EventStream
from callgate.kernel.machine.snapshot import NotQuiescent
from ctrl_c import ctrl_c_when, has_run

READ = 0  # the number of the host's system call


def test_fuel_ends_a_run_and_step_retires_exactly_that_many(bare):
    machine = bare("l: inc eax; jmp l")
    assert str(machine.run(fuel=9)).startswith("fuel after 9 instructions at 0x00001001")
    assert machine.step(3).retired == 12
    assert machine.cpu.eax == 6


def test_names_are_accepted_wherever_addresses_are(bare):
    machine = bare("inc eax; inc ebx; inc ecx; hlt")
    machine.addresses = {"second": 0x1001, "third": 0x1002}
    assert machine.run(until="second").eip == 0x1001
    machine.breakpoints.add("third")
    stop = machine.run()
    assert (stop.reason, stop.detail, stop.eip) == ("breakpoint", 0x1002, 0x1002)
    assert "third" in machine.breakpoints
    with pytest.raises(KeyError, match="there is second"):
        machine.breakpoints.add("secnd")
    machine.breakpoints.clear()
    assert machine.run().reason == "halt"


def test_a_breakpoint_may_have_a_condition(bare):
    machine = bare("mov ecx, 5; l: dec ecx; jnz l; hlt")
    machine.breakpoints.add(0x1006, lambda: machine.cpu.ecx == 2)
    assert machine.run().reason == "breakpoint"
    assert machine.cpu.ecx == 2


def test_a_run_can_end_at_an_event(bare):
    machine = bare("inc eax; out 0x90, eax; inc eax; hlt")
    machine.host_calls.register(0x90, lambda value: machine.stream.emit("reply", value=value), "reply")
    machine.stream.declare("reply")
    stop = machine.run(until="reply")
    assert (stop.reason, stop.detail.fields, machine.cpu.eax) == ("until", {"value": 1}, 1)


def test_the_event_stream_calls_only_listeners_of_a_kind():
    now = [5]
    stream = EventStream(lambda: now[0])
    everything, some = [], []
    stream.emit("lost")
    stream.subscribe(everything.append)
    stream.declare("ipc.reply")
    listener = stream.subscribe(some.append, kinds=["ipc.reply"])
    assert stream.wants("ipc.reply")
    stream.emit("ipc.reply", slot=3)
    stream.emit("ipc.take")
    stream.unsubscribe(listener)
    stream.emit("ipc.reply", slot=4)
    assert [event.line() for event in some] == ["           5 ipc.reply slot=0x3"]
    assert [event.kind for event in everything] == ["ipc.reply", "ipc.take", "ipc.reply"]
    stream.unsubscribe(everything.append)


def test_no_event_is_made_while_there_is_no_listener():
    stream = EventStream(lambda: pytest.fail("the clock is read without a listener"))
    assert not stream.wants("anything")
    stream.emit("anything", value=1)


def test_event_sites_are_probed_only_while_there_is_a_listener(bare):
    machine = bare("mov ecx, 2; l: dec ecx; jnz l; hlt")
    machine.event_sites.add(0x1005, "turn", lambda: {"ecx": machine.cpu.ecx})
    assert not machine.counter.sites.calls
    seen = []
    listener = machine.stream.subscribe(seen.append, kinds=["turn"])
    machine.run()
    assert [(event.clock, event.fields["ecx"]) for event in seen] == [(1, 2), (3, 1)]
    machine.stream.unsubscribe(listener)
    assert not machine.counter.sites.calls
    assert not machine.counter.sites.map[0x1005]


def test_the_ledger_counts_host_calls_by_name_and_subtracts(bare):
    machine = bare("out 0x90, eax; out 0x91, eax; out 0x90, eax; hlt")
    machine.host_calls.register(0x90, lambda _: None, "one")
    machine.host_calls.register(0x91, lambda _: None, "two")
    machine.run(fuel=1)
    before = machine.ledger.counts()
    machine.run()
    spent = machine.ledger.counts() - before
    assert spent.host_calls == {"one": 1, "two": 1}
    assert machine.ledger.counts().as_dict()["host_calls"] == {"one": 2, "two": 1}
    assert list(spent.as_dict()) == [
        *("guest_instructions", "host_calls", "cr3_loads", "pte_writes", "tlb_invalidations"),
        *("server_gates", "client_gates", "requests", "fast_requests", "fast_replies"),
        *("batched_requests", "fast_handoffs", "fpu_switches", "metadata_bytes"),
        *("program_bytes", "server_bytes", "inflated_bytes", "ring_changes", "exceptions", "interrupts"),
        *("cpu_file_bytes", "dma_bytes", "blocking_waits"),
    ]


def test_two_host_calls_cannot_share_a_port(machine):
    machine.host_calls.register(0x90, lambda _: None, "one")
    with pytest.raises(ValueError, match="belongs to the host call 'one'"):
        machine.host_calls.register(0x90, lambda _: None, "two")
    with pytest.raises(ValueError, match="not a port"):
        machine.host_calls.register(0x10000, lambda _: None, "far")


@pytest.mark.parametrize("kind", ["native", "python"])
def test_accesses_to_high_memory_are_booked_to_the_running_code(kind, make_board):
    machine = Machine(memory=8 << 20, high_memory=4 << 20, counter=kind)
    board = type(make_board("native"))(machine)
    board.map(0x405000, 1 << 32, "rw")
    machine.ledger.user_kind = "client"
    board.boot("", user="mov eax, [0x405000]; mov [0x405008], al; mov ax, [0x405010]; mov eax, [0x402000]; ud2")
    board.answer = lambda _: machine.request_stop("host")
    machine.run(fuel=1000)
    assert machine.ledger.counts().cpu_file_bytes == {"kernel": 0, "server": 0, "client": 7}
    machine.close()


def test_descriptors_are_read_back_as_they_were_written(board):
    machine = board.machine
    board.boot("", user="nop; hlt")
    machine.run(until=0x400000)
    table = dict(machine.descriptors.gdt())
    assert table[0x18] == Segment(0, 0xFFFFFFFF, 0x1A, 3)
    assert table[0x28].type in (9, 11)
    assert machine.descriptors.gate(0x80).dpl == 3
    assert machine.descriptors.task_state().ss0 == 0x10
    gate = Gate(8, 0xC0101234, 0xC, 3, parameters=2)
    machine.descriptors.put(0x30, gate)
    assert dict(machine.descriptors.gdt())[0x30] == gate
    with pytest.raises(IndexError, match="limit"):
        machine.descriptors.raw(0x400)


def test_segments_can_be_loaded_into_any_ring(board):
    machine = board.machine
    board.boot("", user="nop; hlt")
    machine.run(until=0x400000)
    assert machine.cpu.cpl == 3
    machine.descriptors.load(cs=0x08, ss=0x10)
    assert (machine.cpu.cpl, machine.cpu.cs, machine.cpu.ss) == (0, 8, 0x10)
    machine.descriptors.load(cs=0x1B, ss=0x23)
    assert machine.cpu.cpl == 3


def test_registers_and_addresses_are_shown_in_hexadecimal(bare):
    machine = bare("mov eax, 0x1234; hlt")
    machine.run()
    assert "eax=0x1234" in repr(machine)
    assert "eax 00001234" in machine.regs
    assert "CPL=0" in machine.regs
    assert machine.disassemble(0x1000, 1) == ["00001000 mov eax, 0x1234"]
    machine.symbols = lambda address: "start" if address == 0x1000 else ""
    assert machine.disassemble(0x1000, 1) == ["00001000 <start> mov eax, 0x1234"]


def test_a_register_that_the_cpu_does_not_have_is_neither_read_nor_written(machine):
    with pytest.raises(AttributeError, match="no register 'rax'"):
        _ = machine.cpu.rax
    with pytest.raises(AttributeError, match="'rax'"):
        machine.cpu.rax = 1


def test_ctrl_c_ends_a_run_and_the_next_one_goes_on(bare):
    machine = bare("l: inc eax; jmp l")
    with ctrl_c_when(has_run(machine, 0.01)):
        stop = machine.run()
    assert stop.reason == "interrupted"
    assert machine.run(fuel=10).reason == "fuel"


def test_ctrl_c_can_be_passed_to_the_guest(bare):
    machine = bare("l: inc eax; jmp l")
    answers = [True, False]
    machine.on_interrupt = lambda: answers.pop(0)

    with ctrl_c_when(has_run(machine, 0.01)), ctrl_c_when(lambda: len(answers) == 1):
        assert machine.run().reason == "interrupted"
    assert answers == []


def test_ctrl_c_ends_a_guest_that_waits_for_input(bare):
    machine = bare("sti; hlt")
    machine.serial.source = lambda room: os.read(reader, room)
    reader, writer = os.pipe()
    # A signal that came after Python's last look for one, but before the call of the host, would not end that.
    call = Path(f"/proc/self/task/{threading.main_thread().native_id}/syscall")
    with ctrl_c_when(lambda: call.read_text().startswith(f"{READ} {reader:#x} ")):
        assert machine.run().reason == "interrupted"
    os.close(reader)
    os.close(writer)


def test_a_hook_may_not_run_the_machine_again(bare):
    machine = bare("out 0x90, eax; hlt")
    machine.host_calls.register(0x90, lambda _: machine.run(), "again")
    with pytest.raises(RuntimeError, match="running"):
        machine.run()


def test_memory_sizes_that_are_not_whole_pages_are_refused():
    with pytest.raises(ValueError, match="memory of 5000 bytes"):
        Machine(memory=5000)


def test_machines_come_and_go_without_leaving_memory_or_files():
    script = (
        "import os, resource\n"
        "from callgate.kernel.machine import Machine\n"
        "def rounds(n):\n"
        "    for _ in range(n):\n"
        "        with Machine() as m:\n"
        "            m.ram.write(0x1000, b'\\x40\\xf4'); m.cpu.eip = 0x1000; m.run()\n"
        "rounds(30)\n"
        "files, rss = len(os.listdir('/proc/self/fd')), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rounds(60)\n"
        "print(len(os.listdir('/proc/self/fd')) - files, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    files, grown = map(int, done.stdout.split())
    assert files <= 0
    assert grown < 4096, f"{grown} KiB"


def test_two_runs_of_the_same_program_give_the_same_events(make_board):
    def trace():
        board = make_board("native")
        lines = []
        board.machine.stream.subscribe(lambda event: lines.append(event.line()))
        board.answer = lambda report: board.frame(0, report.eip + 2)
        board.boot("", user="ud2; int 0x80; xor ecx, ecx; div ecx; hlt")
        board.machine.run(fuel=200)
        return lines, struct.pack("<I", board.machine.cpu.eip)

    first = trace()
    assert first == trace()
    assert first[0]


def test_a_closed_machine_reports_that_it_is_closed_and_does_not_crash():
    machine = Machine(memory=4 << 20, high_memory=0)
    snapshot = machine.snapshot()
    machine.close()
    machine.close()
    assert repr(machine) == "<machine, closed>"
    with pytest.raises(ValueError, match="closed"):
        machine.run()
    with pytest.raises(AttributeError, match="closed"):
        machine.cpu.eax = 1
    with pytest.raises(NotQuiescent, match="closed"):
        machine.restore(snapshot)
    with pytest.raises(NotQuiescent, match="closed"):
        machine.snapshot()


def test_code_in_a_segment_with_a_base_runs_faults_and_reports_offsets(bare):
    """CS with base 1000h: EIP is an offset, sites and hooks are linear."""
    machine = bare("hlt")
    machine.ram.write(0x3000, struct.pack("<HI", 0x17, 0x3100))
    code = 0xCF9A000000FFFF | 0x1000 << 16
    machine.ram.write(0x3100, struct.pack("<3Q", 0, code, 0xCF92000000FFFF))
    machine.ram.write(0x1000, b"\x0f\x01\x15\x00\x30\x00\x00\xea\x00\x10\x00\x00\x08\x00")
    machine.ram.write(0x2000, b"\x40\x43\xf4")
    machine.code_changed(0x1000, 0x2000)
    seen = []
    machine.probe(0x2001, lambda: seen.append(machine.cpu.eip))
    assert machine.run(fuel=3).eip == 0x1001
    assert machine.run().reason == "halt"
    assert (machine.cpu.eax, machine.cpu.ebx, machine.cpu.cs) == (1, 1, 8)
    assert seen == [0x1001]


def test_the_last_word_of_an_event_is_enough_and_a_misspelt_one_gets_a_suggestion(bare):
    machine = bare("inc eax; nop; inc eax; hlt")
    machine.event_sites.add(0x1001, "ipc.reply", lambda: {"eax": machine.cpu.eax})
    machine.event_sites.add(0x1003, "disk.reply")
    stop = machine.run(until="reply")
    assert (stop.eip, str(stop)) == (0x1001, "until after 1 instructions at 0x00001001: ipc.reply eax=0x1")
    assert machine.run(until="disk.reply").eip == 0x1003
    with pytest.raises(KeyError, match=r"no symbol or event 'ipc\.replay'; there is ipc\.reply"):
        machine.run(until="ipc.replay")
    with pytest.raises(KeyError, match="there is exception"):
        machine.run(until="exeption")


def test_event_sites_are_looked_up_on_the_first_listener_and_may_be_shared(bare):
    machine = bare("mov ecx, 2; l: dec ecx; jnz l; hlt")
    asked = []

    def provider():
        asked.append(True)
        yield EventSite(0x1005, "turn", lambda: {"ecx": machine.cpu.ecx} if machine.cpu.ecx == 1 else None)

    machine.event_sites.provide(provider)
    machine.step()
    assert not asked
    stop = machine.run(until="turn")
    assert (asked, stop.detail.fields) == ([True], {"ecx": 1})


def test_memory_is_read_and_written_by_name_and_changed_code_runs(bare):
    machine = bare("l: inc eax; jmp l")
    machine.addresses = {"l": 0x1000}
    machine.step(4)
    assert machine.read("l", 1) == b"\x40"
    machine.write("l", b"\x43\xf4")
    assert machine.run().reason == "halt"
    assert (machine.cpu.eax, machine.cpu.ebx) == (2, 1)


def test_written_code_that_reaches_into_the_next_page_runs(board):
    machine = board.machine
    board.boot("", user="nop; hlt")
    board.map(0x405000, 0x307000, "rw")
    board.map(0x406000, 0x305000, "rw")
    machine.run(until=0x400000)
    for number in (1, 2):
        machine.write(0x405FFE, b"\xb8" + struct.pack("<I", number) + b"\xeb\xfe")
        machine.cpu.eip = 0x405FFE
        machine.run(fuel=3)
        assert machine.cpu.eax == number


def test_the_ledger_shows_nonzero_counts_and_lists_the_names_after_an_unknown_one(bare):
    machine = bare("mov cr3, eax; out 0x90, eax; hlt")
    machine.host_calls.register(0x90, lambda _: None, "one")
    machine.count_site(0x1000, "cr3_loads")
    assert repr(machine.ledger) == "<ledger all zero>"
    machine.run()
    assert (machine.ledger.cr3_loads, machine.ledger.guest_instructions) == (1, 3)
    shown = "guest_instructions={total=3 ring3=3} host_calls={one=1} cr3_loads=1 ring_changes=1"
    assert repr(machine.ledger.counts()) == f"<counts {shown}>"
    with pytest.raises(AttributeError, match=r"no counter 'cr4_loads'; there are .*cr3_loads"):
        _ = machine.ledger.cr4_loads


def test_every_part_of_a_machine_has_a_telling_repr(machine):
    shown = [repr(part) for part in (machine.ram, machine.clock, machine.events, machine.breakpoints, machine.stream)]
    shown += [repr(part) for part in (machine.host_calls, *machine.devices.values())]
    machine.timer.host.schedule(5, None)
    machine.stream.subscribe(print, kinds=["int", "exception"])
    assert shown == [
        *("<ram 8 MiB from 0, 4 MiB from 0x100000000>", "<clock 0 ns: 0 instructions, 0 ns idle>", "<events none>"),
        *("<breakpoints none>", "<event stream, heard by no observer>", "<host calls none>"),
        "<InterruptController 'pic', ports 0x20 to 0x21, ports 0xa0 to 0xa1>",
        *("<Timer 'timer', ports 0x40 to 0x43>", "<Serial 'serial', ports 0x3f8 to 0x3ff>"),
        "<ConsoleDma 'console-dma', ports 0x400 to 0x403>",
    ]
    assert repr(machine.events) == "<events timer at 5 ns>"
    assert repr(machine.stream) == "<event stream, heard by one for exception int>"
