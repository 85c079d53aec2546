"""Paths that need a drive that is not modelled, or two events within a few instructions, on a bare CPU."""

import io
from contextlib import contextmanager
from ctypes import sizeof

import bare_kernel
import pytest
from bare_kernel import ENDPOINT, FRAME, THREAD, ended_at, meanwhile
from callgate.disk.drives.ata import Settings, identify
from callgate.kernel.abi.calls import HostCall
from callgate.kernel.abi.disks.ahci import AtaCommand, TaskFile
from callgate.kernel.abi.disks.disk import IDE_FIRST_DISK, Disk, DiskRequest, DiskStatus
from callgate.kernel.abi.disks.ide import IdeChannel, IdeControl, IdeRegister
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.message import Endpoint, SlotState
from callgate.kernel.abi.thread import ThreadControlBlock, ThreadFlags
from callgate.kernel.machine.memory.bus import DeviceBase

COMMANDS, CONTROL = 0x170, 0x376  # the ports of a channel (ATA8-APT)
CHANNEL, DISK, REQUEST = 0x2_0000, 0x3_0000, 0x4_0000
LINE_STATUS, EMPTY, BREAK = 0x3FD, 0x60, 0x10  # the port, and bits of it
TEXT = 0x6_0000
END_OF_TEXT = 3
READY, FAILED = int(TaskFile.DRDY), int(TaskFile.DRDY | TaskFile.ERR)


@pytest.fixture
def kernel(bare_cpu):
    return bare_kernel.load(bare_cpu)


class Drive(DeviceBase):
    """A drive that is ready, keeps what is written to it except in some registers, and ends each command alike.

    Its data are IDENTIFY DEVICE of a drive that can be used, whether it says that it has any or not.
    """

    ports = (range(COMMANDS, COMMANDS + 8), range(CONTROL, CONTROL + 1))

    def __init__(self, after, forgets=()):
        self.after, self.forgets = after, forgets
        self.kept, self.commands, self.controls = {}, [], []
        self.status = READY
        self.data = io.BytesIO(identify(1000, "1", Settings(), sata=False, ncq=False))

    def port_write(self, port, size, value):
        register = port - COMMANDS
        if port == CONTROL:
            self.controls.append(value)
        elif register == IdeRegister.COMMAND:
            self.commands.append(value)
            self.status = self.after
        elif register not in self.forgets:
            self.kept[register] = value

    def port_read(self, port, size):
        register = port - COMMANDS
        if register == IdeRegister.DATA:
            return int.from_bytes(self.data.read(size), "little")
        return self.status if port == CONTROL or register == IdeRegister.STATUS else self.kept.get(register, 0)


@contextmanager
def attached(cpu, device):
    """Have a device answer its ports, in place of any other."""
    devices = cpu.machine.ports.devices
    ports = [port for run in device.ports for port in run]
    before = {port: devices[port] for port in ports if port in devices}
    devices.update(dict.fromkeys(ports, device))
    try:
        yield device
    finally:
        for port in ports:
            del devices[port]
        devices.update(before)


WITH_DATA = int(TaskFile.DRQ)
REFUSALS = {  # registers that it forgets, and its status after IDENTIFY DEVICE
    "forgets the first register": ((IdeRegister.COUNT,), READY | WITH_DATA),
    "forgets the second register": ((IdeRegister.LBA_LOW,), READY | WITH_DATA),
    "refuses IDENTIFY DEVICE": ((), FAILED),
    "has no data after it": ((), READY),
    "refuses it and offers data": ((), FAILED | WITH_DATA),
    "stays busy after it": ((), int(TaskFile.BSY)),
    "stays busy and offers data": ((), int(TaskFile.BSY) | WITH_DATA),
    "is none that can be used": ((), READY | WITH_DATA),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_drive_that_vanishes_after_it_has_answered_is_not_present(kernel, refusal):
    forgets, status = REFUSALS[refusal]
    with attached(kernel, Drive(status, forgets)) as drive:
        if refusal == "is none that can be used":
            drive.data = io.BytesIO(bytes(512))
        result = kernel.call("ide_probe", ecx=IDE_FIRST_DISK + 2, esi=DISK, edi=CHANNEL, ebp=COMMANDS)
    assert drive.commands == ([] if forgets else [AtaCommand.IDENTIFY_DEVICE])
    assert kernel.field(Disk, DISK, "present") == 0
    assert result.ecx == IDE_FIRST_DISK + 2


def test_a_drive_that_answers_and_offers_its_data_is_present(kernel):
    """What the refusals above lack."""
    kernel.on_host_call(HostCall.DISK_CHANGED, lambda _: None)
    with attached(kernel, Drive(READY | WITH_DATA)):
        kernel.call("ide_probe", ecx=IDE_FIRST_DISK + 2, esi=DISK, edi=CHANNEL, ebp=COMMANDS)
    assert (kernel.field(Disk, DISK, "present"), kernel.field(Disk, DISK, "sectors")) == (1, 1000)


NO_DRIVE = {"no drive": 0, "a floating bus": 0xFF}


@pytest.mark.parametrize("status", NO_DRIVE)
def test_a_drive_that_falls_silent_within_a_command_is_gone_and_its_neighbour_is_not_reset(kernel, status):
    """A reset would have the other drive of the channel leave multiple mode."""
    number = IDE_FIRST_DISK + 2  # the first one of the second channel
    disk = kernel.program.address("disk_table") + number * sizeof(Disk)
    channel = kernel.program.address("ide_channels") + sizeof(IdeChannel)
    told, ended = [], []
    kernel.on_host_call(HostCall.DISK_CHANGED, told.append)
    kernel.on_host_call(HostCall.DISK_DONE, ended.append)
    kernel.place("KernelWords", "kernel_words", ide_base=COMMANDS + 0x80)
    kernel.place(Disk, disk, present=1, issued=1, **{"requests[0]": REQUEST})
    kernel.place(DiskRequest, REQUEST, disk=number, sectors=1)
    kernel.place(IdeChannel, channel, disk=disk)
    with attached(kernel, Drive(READY)) as drive:
        drive.status = NO_DRIVE[status]
        kernel.call("ide_serve", ecx=number)
    assert (told, ended) == ([number], [REQUEST])
    assert kernel.field(DiskRequest, REQUEST, "status") == DiskStatus.REMOVED
    assert kernel.field(Disk, disk, "present") == 0
    assert not any(value & IdeControl.SRST for value in drive.controls)


class Forbidden(DeviceBase):
    """Ports that nothing may touch; it notes what does."""

    def __init__(self, *ports):
        self.ports = ports
        self.touched = []

    def port_read(self, port, size):
        self.touched.append(port)
        return 0

    def port_write(self, port, size, value):
        self.touched.append(port)


@pytest.mark.parametrize("routine", ["ide_init", "ide_interrupt"])
def test_no_port_is_touched_where_there_is_no_ide_controller(kernel, routine):
    """Its command blocks would be at the DMA controller's ports, and at the end of the port space."""
    ports = Forbidden(range(8), range(0x180, 0x210), range(0xFF80, 0x1_0000))
    with attached(kernel, ports):
        kernel.call(routine)
    assert ports.touched == []


def test_a_drive_that_stays_busy_and_vanishes_in_its_reset_is_not_present(kernel):
    drive = Drive(READY)
    drive.status = int(TaskFile.BSY)
    told = []
    kernel.on_host_call(HostCall.DISK_CHANGED, told.append)
    kernel.on_host_call(HostCall.DISK_DONE, lambda _: None)
    kernel.place(Disk, DISK, present=1)
    kernel.place(DiskRequest, REQUEST, disk=IDE_FIRST_DISK)

    def go():
        drive.status = 0

    with attached(kernel, drive), meanwhile(kernel, "ide_reset", "call    ide_control", go):
        kernel.call("ide_lost", ecx=IDE_FIRST_DISK, ebx=REQUEST, esi=DISK, edi=CHANNEL, ebp=COMMANDS)
    assert len(told) == 1
    assert kernel.field(Disk, DISK, "present") == 0


# Two events within a few instructions.


def test_a_thread_that_is_interrupted_by_ctrl_c_as_it_is_given_a_slot_gives_the_slot_back(kernel):
    kernel.on_host_call(HostCall.SLOT_WAIT, lambda _: None)
    kernel.place(ThreadControlBlock, THREAD, flags=ThreadFlags.INTERRUPTED, slot=3)
    kernel.place(Endpoint, ENDPOINT, free=0)
    result = kernel.call("take_slot.called_off")
    assert (result.eax, result.CF) == (ErrorCode.INTERRUPTED, 1)
    assert kernel.field(Endpoint, ENDPOINT, "free") == 1 << 3
    assert kernel.field(ThreadControlBlock, THREAD, "flags") == 0


def test_a_client_waits_to_the_end_for_a_reply_that_is_being_written(kernel):
    """The replier has taken the client out of the record and has not marked the slot yet."""
    waits = []

    def write(value):
        waits.append(value)
        if len(waits) == 2:
            kernel.place(Endpoint, ENDPOINT, **{"state[3]": SlotState.DONE})

    kernel.on_host_call(HostCall.SCHEDULE, write)
    kernel.place(Endpoint, ENDPOINT, **{"state[3]": SlotState.FREE})
    result = kernel.call("finish_reply", ecx=3)
    assert (len(waits), result.CF) == (2, 0)


@pytest.mark.parametrize("killed", [False, True])
def test_a_thread_that_is_killed_in_a_call_that_has_to_wait_ends(kernel, killed):
    calls, waits = [], []

    def answer(_value):
        calls.append(None)
        kernel.place(ThreadControlBlock, THREAD, wait_again=len(calls) == 1, flags=ThreadFlags.KILLED if killed else 0)

    kernel.on_host_call(HostCall.SYSTEM, answer)
    kernel.on_host_call(HostCall.SCHEDULE, waits.append)
    label = "exit_thread" if killed else "leave_gate"
    ended_at(kernel, "system_policy", label)
    assert (len(calls), len(waits)) == ((1, 0) if killed else (2, 1))


def test_a_slot_that_another_cpu_takes_while_it_is_released_is_not_given_to_a_waiting_thread(kernel):
    given = []
    kernel.on_host_call(HostCall.SLOT_GIVE, given.append)
    kernel.place(Endpoint, ENDPOINT, slot_waiters=1, free=0)
    ended_at(kernel, "ipc_gate.give_back", "leave_gate", ecx=4)
    assert not given
    kernel.reset()
    bare_kernel.load(kernel)
    kernel.on_host_call(HostCall.SLOT_GIVE, given.append)
    kernel.place(Endpoint, ENDPOINT, slot_waiters=1, free=1 << 4)
    ended_at(kernel, "ipc_gate.give_back", "leave_gate", ecx=4)
    assert [value & 0xFFFF for value in given] == [4]


def test_a_break_that_comes_while_a_thread_reads_the_line_status_is_read_as_ctrl_c(kernel):
    process = 7
    kernel.place(ThreadControlBlock, THREAD, process=process)

    def press():
        kernel.place("KernelWords", "kernel_words", console_break=process)

    with meanwhile(kernel, "system_read_character", "cmp     eax, [kernel_words", press):
        ended_at(kernel, "system_read_character", "leave_gate")
    assert kernel.field("GateFrame", FRAME, "eax") == END_OF_TEXT
    assert kernel.field("KernelWords", "kernel_words", "console_break") == 0


class LineStatus(DeviceBase):
    """The line status of the serial port: what comes next of a list."""

    ports = (range(LINE_STATUS, LINE_STATUS + 1),)

    def __init__(self, statuses):
        self.statuses = list(statuses)

    def port_read(self, port, size):
        return self.statuses.pop(0)


def test_a_writer_waits_for_a_transmitter_that_is_not_yet_empty(kernel):
    kernel.write(TEXT, b"word")
    with attached(kernel, LineStatus([0, 0, EMPTY])) as line:
        result = kernel.call("serial_write", esi=TEXT, ecx=4)
    assert (result.esi, line.statuses) == (TEXT + 4, [])


def test_a_break_that_is_read_while_bytes_are_sent_is_reported_to_policy_and_no_byte_is_lost(kernel):
    told = []
    kernel.on_host_call(HostCall.INPUT, told.append)
    kernel.on_host_call(HostCall.YIELD, told.append)
    kernel.write(TEXT, b"word")
    with attached(kernel, LineStatus([EMPTY | BREAK])):
        result = kernel.call("serial_write", esi=TEXT, ecx=4)
    assert (result.esi, len(told)) == (TEXT + 4, 2)
