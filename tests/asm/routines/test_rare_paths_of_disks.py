"""AHCI interrupts that come without a cause or too late, ports that do not stop, and lists that wait for several disks.

The registers of a port are plain memory, so that they stay as they are.
"""

import bare_kernel
import pytest
from callgate.disk.drives.ata import Settings, identify
from callgate.kernel.abi.calls import HostCall
from callgate.kernel.abi.disks.ahci import (
    AHCI_SIGNATURE_ATA,
    HbaRegisters,
    HostControl,
    PortCommand,
    PortInterrupt,
    PortRegisters,
)
from callgate.kernel.abi.disks.disk import Disk, DiskRequest
from callgate.kernel.abi.disks.sectors import SectorList
from callgate.kernel.abi.file import SpanRecord

PORT, DISK, CONTROLLER, REQUEST = 0x2_0000, 0x3_0000, 0x4_0000, 0x5_0000
LISTS, RECORDS = (0x6_0000, 0x6_1000), (0x7_0000, 0x7_0100)
ESTABLISHED = 0x123
IDENTITY = identify(1000, "1", Settings(), sata=True, ncq=False)


@pytest.fixture
def kernel(bare_cpu):
    loaded = bare_kernel.load(bare_cpu)
    loaded.place("KernelWords", "kernel_words", ahci_base=CONTROLLER)
    loaded.on_host_call(HostCall.DISK_CHANGED, lambda _: None)
    return loaded


def test_an_interrupt_without_an_ahci_controller_reads_no_register(kernel):
    """They would be in page 0, which is not mapped."""
    kernel.place("KernelWords", "kernel_words", ahci_base=0)
    assert kernel.call("ahci_interrupt").instructions < 10


def test_an_interrupt_without_a_cause_changes_no_register(kernel):
    kernel.call("ahci_interrupt")
    assert kernel.field(HbaRegisters, CONTROLLER, "ghc") == 0


def test_a_controller_whose_cause_cannot_be_cleared_is_given_another_edge(kernel):
    """The cause of a port without a command stays set; after 16 passes the line has to fall and to rise again."""
    kernel.place(HbaRegisters, CONTROLLER, is_=1)
    kernel.call("ahci_interrupt")
    assert kernel.field(HbaRegisters, CONTROLLER, "ghc") == HostControl.AE | HostControl.IE


@pytest.mark.parametrize(("runs_on", "present"), [(PortCommand.FR, 0), (0, 1)])
def test_a_drive_that_is_plugged_into_a_port_that_does_not_stop_is_not_used(kernel, runs_on, present):
    """The controller may still write into memory for the last one."""
    kernel.write("polled_data", IDENTITY)
    kernel.place(PortRegisters, PORT, cmd=runs_on, ssts=ESTABLISHED, sig=AHCI_SIGNATURE_ATA)

    def answer():
        kernel.place(PortRegisters, PORT, ci=0, is_=0)

    with bare_kernel.meanwhile(kernel, "ahci_await_end", "test", answer):
        kernel.call("ahci_plug", edi=PORT, esi=DISK)
    assert kernel.field(Disk, DISK, "present") == present


@pytest.mark.parametrize("cause", [0, PortInterrupt.TFES])
def test_a_drive_that_does_not_identify_itself_is_not_taken_for_the_one_before(kernel, cause):
    """What the last drive said of itself is still in memory.  `cause` 0: the command never ends."""
    kernel.write("polled_data", IDENTITY)
    kernel.place(PortRegisters, PORT, ssts=ESTABLISHED, sig=AHCI_SIGNATURE_ATA)

    def answer():
        kernel.place(PortRegisters, PORT, is_=cause)

    with bare_kernel.meanwhile(kernel, "ahci_await_end", "test", answer):
        kernel.call("ahci_port_init", edi=PORT, esi=DISK)
    assert kernel.field(Disk, DISK, "present") == 0


def test_what_one_disk_brings_has_not_arrived_for_a_list_that_waits_for_another(kernel):
    """Two files at once, whose data lie at the same sectors of two disks."""
    ready = []
    kernel.on_host_call(HostCall.FILE_READY, ready.append)
    for disk, (page, record) in enumerate(zip(LISTS, RECORDS, strict=True)):
        following = LISTS[1] if disk == 0 else 0
        kernel.place(SectorList, page, disk=disk, count=1, record=record, next=following, **{"entries[0]": 8})
        kernel.place(SpanRecord, record, remaining=1, token=70 + disk)
    kernel.place("KernelWords", "kernel_words", sector_lists=LISTS[0])
    kernel.place(DiskRequest, REQUEST, disk=1, lba=8, sectors=8)
    kernel.call("lists_arrived", ebx=REQUEST)
    assert ready == [71]
    assert [kernel.field(SpanRecord, record, "remaining") for record in RECORDS] == [1, 0]
