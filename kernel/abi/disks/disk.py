"""The data of the disk driver in machine code: requests and the driver's own state."""

from ctypes import c_uint8, c_uint16, c_uint32, c_uint64
from enum import IntEnum
from typing import Final

from callgate.kernel.abi.layout import Layout

DISK_REQUEST_PAGES: Final = 512  # most pages of one command: 2 MiB, as much as one READ brings
DISK_REQUEST_RUNS: Final = 56  # most runs of page frames (PRDT entries) that they lie in
DISK_MODEL_SIZE: Final = 40
SECTOR_SHIFT: Final = 9  # log2 of a sector's bytes


class DiskStatus(IntEnum):
    """Status of a DiskRequest."""

    QUEUED = 0
    ACTIVE = 1
    DONE = 2
    FAILED = 3
    REMOVED = 4


class DiskRequest(Layout):
    """One read of consecutive sectors into runs of page frames; policy fills it, the driver runs it.

    Lives in low memory; `runs` become the PRDT.  On completion the driver calls DISK_DONE with it.
    """

    _fields_ = [
        ("next", c_uint32),
        ("disk", c_uint16),
        ("status", c_uint8),
        ("command_slot", c_uint8),
        ("lba", c_uint64),
        ("sectors", c_uint32),
        ("run_count", c_uint32),
        ("token", c_uint32),
        ("error", c_uint32),
        ("runs", c_uint64 * DISK_REQUEST_RUNS),
    ]
    _notes_ = {
        "next": "kernel linear address of the next queued request; 0 = last",
        "disk": "index in disk_table: AHCI port, or IDE_FIRST_DISK + channel * 2 + device",
        "status": "DiskStatus",
        "command_slot": "AHCI command slot while active",
        "lba": "first 512-byte sector",
        "sectors": "1 to 8 * DISK_REQUEST_PAGES",
        "run_count": "1 to DISK_REQUEST_RUNS, with pages enough for the sectors",
        "token": "policy's own number of the request",
        "error": "of a failed command: bits 0-7 status, 8-15 error register, 16-31 those of PxIS (AHCI)",
        "runs": "bits 0-11: pages - 1; 12-63: those of the first page's physical address",
    }


DISKS: Final = 36  # 32 AHCI ports, then 4 IDE drives
IDE_FIRST_DISK: Final = 32


class Disk(Layout):
    """The driver's record of one disk (symbol `disk_table`, indexed by disk number)."""

    _fields_ = [
        ("present", c_uint8),
        ("queue_depth", c_uint8),
        ("generation", c_uint16),
        ("issued", c_uint32),
        ("suspects", c_uint32),
        ("parked", c_uint32),
        ("watched", c_uint32),
        ("block_sectors", c_uint32),
        ("sectors", c_uint64),
        ("queue_head", c_uint32),
        ("queue_tail", c_uint32),
        ("model", c_uint8 * DISK_MODEL_SIZE),
        ("requests", c_uint32 * 32),
    ]
    _notes_ = {
        "present": "1 while the disk can be used",
        "queue_depth": "commands that may be in flight, 1 to 32; more than 1 means NCQ",
        "generation": "counts replugs",
        "issued": "mask of command slots in use",
        "suspects": "mask of commands that run one at a time, because one of them failed and none was named",
        "parked": "mask of suspects that wait for their turn; the rest of `issued` is with the controller",
        "watched": "mask of commands that were in flight at the last disk_watch, without a sign of life since",
        "block_sectors": "IDE: sectors of a DRQ block; more than 1 means READ MULTIPLE",
        "sectors": "512-byte sectors",
        "queue_head": "linear address of the first DiskRequest that waits for a command slot; 0 = none",
        "queue_tail": "the last one",
        "model": "as IDENTIFY DEVICE words 27 to 46 give it",
        "requests": "linear address of the DiskRequest in each command slot",
    }
