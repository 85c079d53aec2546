"""The boot-information page: the loader describes the machine to the guest (at physical `BOOT_INFORMATION`)."""

from ctypes import c_uint32, c_uint64
from typing import Final

from callgate.kernel.abi.layout import Layout

BOOT_MAGIC: Final = 0x6763_6C63  # "clcg"


class BootInformation(Layout):
    """Sizes, tables and the first threads; everything physical unless said otherwise."""

    _fields_ = [
        ("magic", c_uint32),
        ("size", c_uint32),
        ("low_memory", c_uint64),
        ("high_memory", c_uint64),
        ("page_directory_pointers", c_uint32),
        ("first_thread", c_uint32),
        ("ahci_mmio", c_uint32),
        ("ide_ports", c_uint32),
        ("window_table", c_uint32),
    ]
    _notes_ = {
        "size": "bytes of this structure",
        "low_memory": "bytes of RAM from physical 0",
        "high_memory": "bytes of RAM from physical 4 GiB",
        "page_directory_pointers": "PDPT of the first address space, below 4 GiB, 32-byte aligned",
        "first_thread": "selector of the thread to start",
        "ahci_mmio": "kernel linear address of the HBA's registers; 0 = no controller",
        "ide_ports": "command block of the first IDE channel; 0 = no controller",
        "window_table": "kernel linear address of the page-table entry of KERNEL_WINDOW",
    }
