"""Paths that hardware or another CPU would have to force, routine by routine on a bare CPU.

The registers of a port are plain memory here, so that they stay as they are: a port that never stops, a drive that
is never ready.  What another CPU does between two instructions is done by a probe.
"""

import bare_kernel
import pytest
from bare_kernel import ENDPOINT, THREAD, meanwhile
from callgate.kernel.abi.calls import HostCall
from callgate.kernel.abi.disks.ahci import Capabilities, HbaRegisters, PortCommand, PortInterrupt, PortRegisters
from callgate.kernel.abi.disks.disk import Disk
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.message import Endpoint, EndpointFlags, SlotState
from callgate.kernel.abi.thread import ThreadControlBlock, ThreadFlags
from callgate.tools.asmtest.board.result import RoutineError

PORT, PAGE, DISK, CONTROLLER = 0x2_0000, 0x1_4000, 0x3_0000, 0x4_0000
PLUG_CAUSES = PortInterrupt.PCS | PortInterrupt.PRCS
ESTABLISHED, BUSY = 0x123, 0x80


@pytest.fixture
def kernel(bare_cpu):
    loaded = bare_kernel.load(bare_cpu)
    loaded.place("KernelWords", "kernel_words", ahci_base=CONTROLLER)
    return loaded


# AHCI 1.3.1, section 10.3: ports whose engines do not stop.

STOPS = [  # what PxCMD holds and goes on holding, whether a drive is there, and CF
    (0, ESTABLISHED, 0),
    (PortCommand.CR, ESTABLISHED, 1),
    (PortCommand.FR, ESTABLISHED, 1),
    (PortCommand.CR | PortCommand.FR, 0, 1),
]


@pytest.mark.parametrize(("command", "status", "carry"), STOPS)
def test_a_port_whose_engines_do_not_stop_is_reported(kernel, command, status, carry):
    kernel.place(PortRegisters, PORT, cmd=command, ssts=status)
    assert carry == kernel.call("ahci_stop", edi=PORT).CF
    assert carry == kernel.call("ahci_listen", edi=PORT, esi=0x3_0000).CF
    assert carry == kernel.call("ahci_restart", edi=PORT).CF


def test_a_port_that_stops_only_after_a_reset_of_the_drive_has_stopped(kernel):
    kernel.place(PortRegisters, PORT, cmd=PortCommand.CR, ssts=ESTABLISHED)

    def stop():
        kernel.place(PortRegisters, PORT, cmd=0)

    with meanwhile(kernel, "ahci_comreset", "", stop):
        assert kernel.call("ahci_stop", edi=PORT).CF == 0


@pytest.mark.parametrize("linked", [0, ESTABLISHED])
def test_a_drive_that_stays_busy_or_vanishes_is_not_started(kernel, linked):
    kernel.place(PortRegisters, PORT, ssts=linked, tfd=BUSY)
    result = kernel.call("ahci_run", edi=PORT)
    assert result.CF == 1
    assert not kernel.field(PortRegisters, PORT, "cmd") & PortCommand.ST


def test_a_drive_that_vanishes_while_it_is_reset_is_not_started(kernel):
    kernel.place(PortRegisters, PORT, ssts=ESTABLISHED, tfd=BUSY)

    def unplug():
        kernel.place(PortRegisters, PORT, ssts=0)

    with meanwhile(kernel, "ahci_comreset", "mov", unplug):
        assert kernel.call("ahci_run", edi=PORT).CF == 1


@pytest.mark.parametrize("cause", [0, 1 << 30])
def test_a_polled_command_that_never_ends_or_fails_at_its_end_counts_as_failed(kernel, cause):
    kernel.place(PortRegisters, PORT, ci=1 - bool(cause))

    def fail():
        kernel.place(PortRegisters, PORT, is_=cause)

    with meanwhile(kernel, "ahci_await_end", "jz      .over", fail):
        assert kernel.call("ahci_await_end", edi=PORT).CF == 1


def test_an_interrupt_without_a_driver_changes_nothing(kernel):
    result = kernel.call("spurious", eax=5, edi=7)
    assert (result.eax, result.edi, result.instructions) == (5, 7, 1)


# Another CPU between two instructions.


def test_a_slot_that_another_consumer_has_taken_is_not_fetched_twice(kernel):
    kernel.place(Endpoint, ENDPOINT, **{"ring[0]": 0x03, "ring[1]": 0x05})

    def take():
        kernel.place(Endpoint, ENDPOINT, head=1)

    with meanwhile(kernel, "fetch_slot", "lock cmpxchg", take):
        result = kernel.call("fetch_slot")
    assert (result.ecx, result.CF) == (5, 0)
    assert kernel.field(Endpoint, ENDPOINT, "head") == 2


def test_an_empty_cell_is_read_again_if_the_head_has_moved(kernel):
    kernel.place(Endpoint, ENDPOINT, **{"ring[0]": 0xE0, "ring[1]": 0x04})

    def move():
        kernel.place(Endpoint, ENDPOINT, head=1)

    with meanwhile(kernel, "fetch_slot", "cmp     eax", move):
        result = kernel.call("fetch_slot")
    assert (result.ecx, result.CF) == (4, 0)


@pytest.mark.parametrize("taken", [False, True])
def test_a_slot_that_is_released_as_a_thread_begins_to_wait_is_given_once(kernel, taken):
    given = []
    kernel.on_host_call(HostCall.SLOT_GIVE, given.append)

    def wait():
        kernel.place(Endpoint, ENDPOINT, slot_waiters=1, free=0 if taken else 1 << 2)

    with meanwhile(kernel, "release_slot", "cmp", wait, after=20):
        kernel.call("release_slot", ecx=2)
    assert [value & 0xFFFF for value in given] == ([] if taken else [2])
    assert kernel.field(Endpoint, ENDPOINT, "free") == 0


def test_a_server_that_another_client_has_woken_is_not_woken_again(kernel):
    """signal_and_wait looks for an idle server again, and waits when there is none."""
    kernel.place(Endpoint, ENDPOINT, idle=1, **{"state[3]": SlotState.DONE})

    def wake():
        kernel.place(Endpoint, ENDPOINT, idle=0)

    with meanwhile(kernel, "signal_and_wait", "lock btr", wake):
        result = kernel.call("signal_and_wait", ecx=3, returns=False, fuel=8)
    assert kernel.program.symbol_at(result.eip).startswith("wait_for_reply")


def test_a_killed_thread_waits_for_a_reply_that_is_certain_to_come(kernel):
    kernel.place(ThreadControlBlock, THREAD, flags=ThreadFlags.KILLED)
    kernel.place(Endpoint, ENDPOINT, **{"state[3]": SlotState.DONE})
    assert kernel.call("finish_reply", ecx=3).CF == 0
    kernel.place(Endpoint, ENDPOINT, **{"state[3]": SlotState.FREE, "slots[3].client": 0})
    result = kernel.call("abandon_request", ecx=3, returns=False, fuel=12)
    assert result.registers["ecx"] == 3
    assert kernel.program.symbol_at(result.eip).split("+")[0] in ("finish_reply", "block")


def test_a_kernel_that_finds_no_boot_information_halts(kernel):
    with pytest.raises(RoutineError, match="start ended by"):
        kernel.call("start")
    assert kernel.program.symbol_at(kernel.last.eip).startswith("start")


@pytest.mark.parametrize("ended", [0, 1])
def test_a_break_that_is_read_with_the_line_status_is_reported_to_policy(kernel, ended):
    told = []

    def answer(value):
        told.append(value)
        kernel.machine.cpu.eax = ended

    kernel.on_host_call(HostCall.INPUT, answer)
    kernel.machine.serial.state.ier = 4  # the guest listens for breaks
    assert kernel.machine.serial.send_break()
    result = kernel.call("serial_read")
    assert (told, result.CF, result.ZF) == ([1], 1, 1 - ended)


# Ports without a drive, unusable drives, and ports that do not stop after an error.

OPEN = PortCommand.MPSP | PortCommand.MPSS
POLLS = 10_000  # of the link, at least


@pytest.mark.parametrize(
    ("capabilities", "command", "waits"),
    [
        (Capabilities.SMPS, OPEN, False),
        (0, OPEN, True),
        (Capabilities.SMPS, PortCommand.MPSP, True),
        (Capabilities.SMPS, PortCommand.MPSS, True),
    ],
)
def test_a_drive_is_waited_for_unless_a_switch_says_that_there_is_none(kernel, capabilities, command, waits):
    kernel.place(HbaRegisters, CONTROLLER, cap=capabilities)
    kernel.place(PortRegisters, PORT, cmd=command)
    result = kernel.call("ahci_await_link", edi=PORT)
    assert (result.CF, result.instructions > POLLS) == (1, waits)


def test_a_drive_whose_link_comes_up_late_is_found(kernel):
    def come():
        kernel.place(PortRegisters, PORT, ssts=ESTABLISHED)

    with meanwhile(kernel, "ahci_await_link", "dec", come):
        assert kernel.call("ahci_await_link", edi=PORT).CF == 0


SIGNATURES = {"ATA": 0x101, "ATAPI": 0xEB14_0101}


@pytest.mark.parametrize(("linked", "signature"), [(0, "ATA"), (ESTABLISHED, "ATAPI"), (ESTABLISHED, "ATA")])
def test_an_unusable_drive_is_watched_and_not_present(kernel, linked, signature):
    """None, a packet device, and one that never answers IDENTIFY DEVICE."""
    kernel.place(PortRegisters, PORT, ssts=linked, sig=SIGNATURES[signature])
    kernel.call("ahci_port_init", edi=PORT, esi=DISK)
    assert kernel.field(PortRegisters, PORT, "ie") == PLUG_CAUSES
    assert not kernel.field(PortRegisters, PORT, "cmd") & PortCommand.ST
    assert kernel.field(Disk, DISK, "present") == 0


@pytest.mark.parametrize(("capabilities", "drive"), [(31 << 8, 0xFF), (31 << 8 | 1 << 30, 0)])
def test_a_controller_or_a_drive_without_ncq_does_not_raise_the_number_of_commands(kernel, capabilities, drive):
    kernel.place(HbaRegisters, CONTROLLER, cap=capabilities)
    kernel.write("polled_data", bytes([drive]) * 512)
    kernel.place(Disk, DISK, queue_depth=1)
    kernel.call("ahci_depth", esi=DISK)
    assert kernel.field(Disk, DISK, "queue_depth") == 1


def test_a_port_that_does_not_stop_after_its_drive_has_gone_is_left_alone(kernel):
    kernel.place(PortRegisters, PORT, cmd=PortCommand.CR | PortCommand.FR, ssts=ESTABLISHED)
    gone = []
    kernel.on_host_call(HostCall.DISK_CHANGED, gone.append)
    kernel.call("ahci_plug", edi=PORT, esi=DISK)
    assert len(gone) == 1
    assert kernel.field(PortRegisters, PORT, "cmd") & PortCommand.ST == 0


def test_a_drive_whose_port_does_not_stop_is_given_up(kernel):
    kernel.place(PortRegisters, PORT, cmd=PortCommand.CR | PortCommand.FR, ssts=ESTABLISHED)
    given_up = meanwhile(kernel, "ahci_give_up", "", lambda: kernel.machine.request_stop("given up"), after=1)
    with given_up, pytest.raises(RoutineError, match="given up"):
        kernel.call("ahci_reset_drive", edi=PORT, esi=DISK)


def test_an_error_with_nothing_in_flight_fails_no_request(kernel):
    kernel.call("ahci_judge", edi=PORT, esi=DISK)
    assert (kernel.field(Disk, DISK, "suspects"), kernel.field(Disk, DISK, "parked")) == (0, 0)


def test_a_server_that_another_thread_has_woken_is_not_woken_by_a_post_again(kernel):
    endpoint, page = kernel.segment("gs", ENDPOINT), kernel.segment("es", PAGE)
    kernel.place(ThreadControlBlock, THREAD, request_endpoint=endpoint)
    kernel.place(Endpoint, ENDPOINT, idle=1, **{"slots[0].selector": page})

    def wake():
        kernel.place(Endpoint, ENDPOINT, idle=0)

    with meanwhile(kernel, "sleeping_server", "lock btr", wake):
        kernel.call("ipc_post_slot")
    assert kernel.field(Endpoint, ENDPOINT, "idle") == 0


# A reset is for a drive that keeps the controller waiting, and for no other.

IDLE = 0x300  # what a reset leaves in PxSCTL


@pytest.mark.parametrize(("left", "carry"), [(0, 0), (PortCommand.FR, 1), (PortCommand.CR, 1)])
def test_a_port_of_which_one_engine_runs_on_after_a_reset_does_not_stop(kernel, left, carry):
    kernel.place(PortRegisters, PORT, cmd=PortCommand.CR, ssts=ESTABLISHED)
    with meanwhile(kernel, "ahci_comreset", "", lambda: kernel.place(PortRegisters, PORT, cmd=left)):
        assert carry == kernel.call("ahci_stop", edi=PORT).CF


def test_a_port_that_stops_and_a_drive_that_is_ready_are_not_reset(kernel):
    kernel.place(PortRegisters, PORT, ssts=ESTABLISHED)
    assert kernel.call("ahci_stop", edi=PORT).CF == 0
    assert kernel.call("ahci_run", edi=PORT).CF == 0
    assert kernel.field(PortRegisters, PORT, "sctl") == 0
    assert kernel.field(PortRegisters, PORT, "cmd") & PortCommand.ST


@pytest.mark.parametrize(("linked", "reset"), [(0, 0), (ESTABLISHED, IDLE)])
def test_a_port_without_a_drive_is_not_reset_and_one_with_a_busy_drive_is(kernel, linked, reset):
    kernel.place(PortRegisters, PORT, ssts=linked, tfd=BUSY)
    assert kernel.call("ahci_run", edi=PORT).CF == 1
    assert kernel.field(PortRegisters, PORT, "sctl") == reset


def test_a_drive_that_is_busy_for_a_moment_is_waited_for(kernel):
    kernel.place(PortRegisters, PORT, ssts=ESTABLISHED, tfd=BUSY)
    with meanwhile(kernel, "ahci_await_drive", "dec", lambda: kernel.place(PortRegisters, PORT, tfd=0)):
        assert kernel.call("ahci_await_drive", edi=PORT).CF == 0


@pytest.mark.parametrize(("detected", "carry"), [(0, 1), (1, 1), (3, 0), (4, 1)])
def test_only_a_drive_with_communication_established_is_linked(kernel, detected, carry):
    """PxSSTS.DET is 4 where the port is in offline mode."""
    kernel.place(PortRegisters, PORT, ssts=detected)
    assert carry == kernel.call("ahci_linked", edi=PORT).CF


def test_a_drive_with_a_queue_and_without_ncq_is_given_one_command_at_a_time(kernel):
    kernel.place(HbaRegisters, CONTROLLER, cap=Capabilities.SNCQ | 31 << 8)
    kernel.write("polled_data", bytes(150) + (31).to_bytes(2, "little") + bytes(360))  # word 75, and no bit of word 76
    kernel.place(Disk, DISK, queue_depth=1)
    kernel.call("ahci_depth", esi=DISK)
    assert kernel.field(Disk, DISK, "queue_depth") == 1


# What a thread that was preempted between two instructions finds.


def test_a_slot_that_another_thread_has_taken_meanwhile_is_not_taken_twice(kernel):
    kernel.place(Endpoint, ENDPOINT, free=0b110)
    with meanwhile(kernel, "take_slot", "lock btr", lambda: kernel.place(Endpoint, ENDPOINT, free=0b100)):
        result = kernel.call("take_slot")
    assert (result.CF, result.ecx, kernel.field(Endpoint, ENDPOINT, "free")) == (0, 2, 0)


def test_a_slot_that_another_thread_has_used_first_meanwhile_is_not_taken_twice(kernel):
    kernel.on_host_call(HostCall.FIRST_USE, lambda _value: None)
    kernel.place(Endpoint, ENDPOINT, unused=0b11)
    with meanwhile(kernel, "take_slot.fresh", "lock btr", lambda: kernel.place(Endpoint, ENDPOINT, unused=0b10)):
        result = kernel.call("take_slot")
    assert (result.CF, result.ecx, kernel.field(Endpoint, ENDPOINT, "unused")) == (0, 1, 0)


def test_a_read_of_a_server_that_has_died_is_not_posted(kernel):
    endpoint = kernel.segment("gs", ENDPOINT)
    kernel.place(ThreadControlBlock, THREAD, request_endpoint=endpoint)
    kernel.place(Endpoint, ENDPOINT, flags=EndpointFlags.DEAD, free=1)
    result = kernel.call("ipc_post_and_wait")
    assert (result.CF, result.eax) == (1, ErrorCode.SERVER_DIED)
    assert kernel.field(Endpoint, ENDPOINT, "tail") == 0


def test_the_accessed_bits_of_all_entries_are_collected_and_cleared(kernel):
    kernel.write(PAGE, b"".join(entry.to_bytes(8, "little") for entry in (0x27, 0x07, 0x27, 0x27)))
    assert kernel.call("harvest_accessed", ebx=PAGE, ecx=3).eax == 2
    assert [entry & 0xFF for entry in kernel.read(PAGE, 32)[::8]] == [0x07, 0x07, 0x07, 0x27]
