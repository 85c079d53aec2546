"""What debuggers see of a booted system, against what the machine does next."""

from collections.abc import Callable

import pytest
from callgate.kernel.system import System
from callgate.tools.debugger.debuggee import Debuggee, Reason
from callgate.tools.debugger.debuggee.registers import NotWritable
from callgate.tools.debugger.debuggee.threads import BOOT_NUMBER
from callgate.tools.debugger.debuggee.watchpoints import Kind

Boot = Callable[[str], System]


def stopped_in_request(system: System) -> Debuggee:
    """Return a system at the first request of the shell."""
    debuggee = Debuggee(system)
    debuggee.report_starts = True
    while (ending := debuggee.run()).process is None or ending.process.name != "shell":
        assert not ending.final
    debuggee.report_starts = False
    point = debuggee.breakpoints.add(system.kernel.image.address("take_slot"))
    assert debuggee.run().breakpoint is point
    debuggee.breakpoints.clear()
    return debuggee


def test_the_cpu_belongs_to_a_thread_named_boot_until_the_first_switch(boot_demo: Boot) -> None:
    system = boot_demo("dir")
    debuggee = Debuggee(system)
    first = debuggee.threads.running()
    assert (first.number, first.name, first.process.name) == (BOOT_NUMBER, "boot", "kernel")
    assert {thread.name for thread in debuggee.threads} == {"boot", "idle", "init"}
    system.run(until="thread.switch")
    assert debuggee.threads.running().name == "init"
    assert {thread.name for thread in debuggee.threads} == {"idle", "init"}


def test_registers_of_a_thread_that_waits_are_those_with_which_it_goes_on(boot_demo: Boot) -> None:
    debuggee = Debuggee(boot_demo("dir; cat README.TXT; /rom/hello", fast_path=False))
    known: dict[int, dict[str, int | None]] = {}
    resumed = 0
    while debuggee.system.run(until="thread.switch").reason == "until":
        thread = debuggee.threads.running()
        debuggee.machine.step(3)  # popad, popfd, ret
        assert debuggee.threads.running() == thread
        if thread.number in known:
            resumed += 1
            now = debuggee.machine.cpu.registers()
            expected = known[thread.number].items()
            assert {name: now[name] for name, value in expected if value is not None} == {
                name: value for name, value in expected if value is not None
            }
        known = {other.number: debuggee.registers.general(other) for other in debuggee.threads if other != thread}
    assert resumed > 20


def test_a_step_that_causes_a_page_fault_ends_at_the_first_instruction_of_its_handler(boot_demo: Boot) -> None:
    system = boot_demo("/rom/crash r")
    debuggee = Debuggee(system)
    debuggee.catch.add(14)
    debuggee.report_starts = True
    while (ending := debuggee.run()).reason is not Reason.DELIVERED or debuggee.threads.running().name != "crash":
        assert not ending.final
    assert ending.incident is not None
    assert system.kernel.image.symbol_at(debuggee.machine.cpu.eip) == "trap_14"
    assert debuggee.memory.read(debuggee.threads.running().process, ending.incident.eip, 1)


def test_a_breakpoint_of_one_process_does_not_end_the_run_of_another_at_the_same_address(boot_demo: Boot) -> None:
    system = boot_demo("/rom/hello")
    debuggee = Debuggee(system)
    debuggee.report_starts = True
    while (ending := debuggee.run()).process is None or ending.process.name != "shell":
        assert not ending.final
    debuggee.report_starts = False
    entry = 0x0040_0000
    process = next(process for process in debuggee.threads.processes() if process.name == "rom")
    point = debuggee.breakpoints.add(entry, process)
    assert debuggee.run().reason is Reason.EXIT  # the shell and hello begin there, too; rom began before
    assert point.hits == 0
    with pytest.raises(ValueError, match="name the process"):
        debuggee.breakpoints.add(entry)


def test_a_breakpoint_set_before_the_first_instruction_holds_when_paging_has_been_switched_on(boot_demo: Boot) -> None:
    system = boot_demo("dir")
    debuggee = Debuggee(system)
    debuggee.breakpoints.add(system.kernel.image.address("start_paged"))
    before = debuggee.memory.read(debuggee.threads.running().process, system.kernel.image.address("start_paged"), 16)
    assert debuggee.run().reason is Reason.BREAKPOINT
    assert debuggee.machine.cpu.eip == system.kernel.image.address("start_paged")
    assert debuggee.machine.read(debuggee.machine.cpu.eip, 16) == before


def test_a_conditional_breakpoint_ends_the_run_only_where_its_condition_holds(boot_demo: Boot) -> None:
    system = boot_demo("dir")
    debuggee = Debuggee(system)
    seen: list[int] = []

    def third() -> bool:
        seen.append(debuggee.machine.cpu.eip)
        return len(seen) == 3

    point = debuggee.breakpoints.add(system.kernel.image.address("take_slot"), conditions=[third])
    assert debuggee.run().breakpoint is point
    assert (len(seen), point.hits) == (3, 1)


def test_a_run_with_breakpoints_steps_and_watchpoints_is_the_run_without_them(boot_demo: Boot) -> None:
    plain = boot_demo("dir; cat README.TXT")
    expected: list[str] = []
    plain.trace(lambda event: expected.append(event.line()))
    plain.run()
    system = boot_demo("dir; cat README.TXT")
    got: list[str] = []
    system.trace(lambda event: got.append(event.line()))
    debuggee = Debuggee(system)
    debuggee.breakpoints.add(system.kernel.image.address("ipc_gate"))
    watched = system.kernel.guest.address("kernel_words")
    debuggee.watchpoints.add(Kind.WRITE, watched, 4)
    while not (ending := debuggee.run()).final:
        if debuggee.breakpoints.known[0].hits == 10:
            debuggee.breakpoints.clear()
            debuggee.watchpoints.clear()
            break
        for _ in range(3):
            debuggee.step()
    if not ending.final:
        assert debuggee.run().reason is Reason.EXIT
    assert got == expected
    assert str(system.machine.regs) == str(plain.machine.regs)


def test_a_watchpoint_names_the_instruction_that_wrote_and_ends_the_run_after_it(boot_demo: Boot) -> None:
    debuggee = stopped_in_request(boot_demo("dir"))
    kernel, image = debuggee.kernel, debuggee.kernel.image
    current = image.address("kernel_words")
    debuggee.watchpoints.add(Kind.WRITE, current, 4)
    old = debuggee.machine.read(current, 4)
    ending = debuggee.run()
    assert ending.access is not None
    assert (ending.access.by, ending.access.write) == ("cpu", True)
    assert image.address("hand_over_request.turn") <= ending.access.eip < image.address("hand_over_request.undo")
    assert debuggee.machine.read(current, 4) != old
    assert kernel.guest.kernel_words["current"] == int.from_bytes(debuggee.machine.read(current, 4), "little")


def test_a_watchpoint_tells_what_policy_writes_from_what_the_cpu_writes(boot_demo: Boot) -> None:
    debuggee = stopped_in_request(boot_demo("dir"))
    debuggee.kernel.scheduler.ask_always(always=True)
    chosen = debuggee.kernel.image.address("kernel_words") + 4  # `next`, which policy alone writes if it is asked
    debuggee.watchpoints.add(Kind.WRITE, chosen, 4)
    ending = debuggee.run()
    assert ending.access is not None
    assert ending.access.by.startswith("policy, in the host call ")


def test_a_watchpoint_tells_what_a_device_writes(boot_demo: Boot) -> None:
    debuggee = Debuggee(boot_demo("dir"))
    transfers: list[tuple[int, int]] = []
    kept = debuggee.machine.dma_watch = lambda physical, length: transfers.append((physical, length))
    assert debuggee.run().reason is Reason.EXIT
    physical = next(at for at, _ in transfers if at < debuggee.machine.ram.low_size)
    again = Debuggee(boot_demo("dir"))
    again.watchpoints.add(Kind.WRITE, 0xC000_0000 + physical, 4)
    while (ending := again.run()).access is not None and ending.access.by == "cpu":
        pass
    assert ending.access is not None
    assert ending.access.by == "DMA"
    assert debuggee.machine.dma_watch is kept


def test_an_access_across_pages_ends_the_run_if_only_its_second_part_is_watched(boot_demo: Boot) -> None:
    system = boot_demo("dir")
    debuggee = Debuggee(system)
    machine = system.machine
    machine.ram.write(
        0x20_0000, b"\xc7\x05\xfe\x0f\x30\x00\x44\x33\x22\x11\xf4"
    )  # mov dword ptr [0x300ffe], 0x11223344
    machine.cpu.eip = 0x20_0000
    debuggee.watchpoints.add(Kind.WRITE, 0x30_1000, 2, debuggee.threads.running().process)
    ending = debuggee.run()
    assert ending.access is not None
    assert (machine.cpu.eip, machine.ram.read(0x30_0FFE, 4)) == (0x20_000A, b"\x44\x33\x22\x11")


def test_memory_is_read_up_to_the_first_byte_that_is_not_mapped_and_written_whole_or_not_at_all(
    boot_demo: Boot,
) -> None:
    debuggee = stopped_in_request(boot_demo("dir"))
    process = debuggee.threads.running().process
    mapped = [page for page in sorted(process.pages) if page + 4096 not in process.pages]
    last = mapped[0]
    before = debuggee.memory.read(process, last + 4000, 4096)
    assert len(before) == 96
    assert not debuggee.memory.write(process, last + 4090, b"twelve bytes")
    assert debuggee.memory.read(process, last + 4000, 4096) == before
    assert debuggee.memory.write(process, last + 4090, b"six by")
    assert debuggee.memory.read(process, last + 4090, 6) == b"six by"
    assert debuggee.memory.read(process, 0xF000_0000, 4) == b""  # registers of the disk controller


def test_changed_registers_of_a_waiting_thread_are_those_with_which_it_goes_on(boot_demo: Boot) -> None:
    debuggee = stopped_in_request(boot_demo("dir", fast_path=False))
    server = next(thread for thread in debuggee.threads if thread.name.startswith("hosted:d0p1"))
    kept = debuggee.registers.general(server)["ebp"]
    assert kept is not None
    debuggee.registers.set(server, "ebp", 0x1234_5678)
    assert debuggee._until_resumed(server, None) is None
    assert debuggee.machine.cpu.ebp == 0x1234_5678
    debuggee.registers.set(server, "ebp", kept)
    assert debuggee.machine.cpu.ebp == kept
    with pytest.raises(NotWritable, match="cs of a thread that does not run"):
        debuggee.registers.set(next(each for each in debuggee.threads if each.name == "shell"), "cs", 8)


def test_a_step_over_the_switch_names_the_thread_that_it_left_where_that_one_will_resume(boot_demo: Boot) -> None:
    debuggee = stopped_in_request(boot_demo("dir", fast_path=False))
    debuggee.breakpoints.add(debuggee.kernel.image.address("switch_resume"))
    debuggee.run()
    debuggee.breakpoints.clear()
    left = debuggee.threads.running()
    while (ending := debuggee.step()).thread is None:
        assert debuggee.threads.running() == left
    assert ending.thread == left
    assert debuggee.threads.running() != left
    resumes = debuggee.registers.general(left)["eip"]
    assert resumes is not None
    size = len(debuggee.memory.read(left.process, resumes, 1))
    assert size == 1
    assert debuggee.step_thread(left).thread is None
    assert debuggee.threads.running() == left
    assert 0 < debuggee.machine.cpu.eip - resumes < 16


def test_a_step_of_a_waiting_thread_ends_in_the_direct_switch_by_which_it_goes_on(boot_demo: Boot) -> None:
    debuggee = stopped_in_request(boot_demo("dir"))
    server = next(thread for thread in debuggee.threads if thread.name.startswith("hosted:d0p1"))
    client = debuggee.threads.running()
    debuggee.step_thread(server)
    assert debuggee.threads.running() == server
    symbol = debuggee.kernel.image.symbol_at(debuggee.machine.cpu.eip)
    assert symbol.startswith("ipc_gate+")
    in_ring_3(debuggee)
    assert debuggee.threads.running() == server
    while debuggee.threads.running() != client:
        debuggee.step_thread(client)
    assert debuggee.kernel.image.symbol_at(debuggee.machine.cpu.eip).startswith("post_and_wait+")


def in_ring_3(debuggee: Debuggee) -> None:
    while debuggee.machine.cpu.cpl != 3:
        debuggee.step()


def test_a_step_ends_at_an_interrupt_and_a_range_of_steps_passes_over_its_handler(boot_demo: Boot) -> None:
    debuggee = stopped_in_request(boot_demo("dir"))
    in_ring_3(debuggee)
    machine, thread = debuggee.machine, debuggee.threads.running()
    eip = machine.cpu.eip
    machine.pic.raise_line(0)
    ending = debuggee.step()
    assert (ending.reason, machine.cpu.cpl) == (Reason.DELIVERED, 0)
    assert debuggee.kernel.image.symbol_at(machine.cpu.eip) == "trap_32"
    assert ending.incident is not None
    assert (ending.incident.eip, ending.incident.external) == (eip, True)
    machine.pic.lower_line(0)
    in_ring_3(debuggee)
    assert machine.cpu.eip == eip, "nothing of the interrupted instruction has been executed"
    machine.pic.raise_line(0)
    ending = debuggee.step_range(eip, eip + 1)
    assert ending.reason is Reason.STEP
    assert (debuggee.threads.running(), machine.cpu.cpl) == (thread, 3)
    assert not eip <= machine.cpu.eip < eip + 1
