"""On whose account Python touches guest memory.

Loads and stores of the guest above 4 GiB, where the blocks of disks lie, are counted as they happen
(`machine.engine.counter`).  Policy and hosted servers are Python: they touch the same bytes without an instruction, so
they have to say on whose account, and `Ram` refuses an access without one.
"""

from enum import Enum, auto


class Account(Enum):
    """The account to which bytes are booked; all but the last three are keys of the ledger (docs/ledger.md)."""

    __hash__ = object.__hash__  # each is there once; that of an Enum is Python, and every access is booked

    KERNEL = auto()  # cpu_file_bytes, kernel: file data, touched by policy
    SERVER = auto()  # cpu_file_bytes, server: file data, touched by a hosted server
    METADATA = auto()  # metadata_bytes: locked blocks, for a hosted server, and blocks read to recognise a volume
    PROGRAM = auto()  # program_bytes: files that are read to be loaded as programs
    SERVER_MEMORY = auto()  # server_bytes: a hosted server's own memory, its message pages included
    DEVICE = auto()  # DMA: the device books what it has moved
    MACHINE = auto()  # the CPU itself, and snapshots
    OBSERVER = auto()  # a debugger, which looks at anything at any time


NOT_BOOKED = frozenset({Account.DEVICE, Account.MACHINE, Account.OBSERVER})  # in no key of the ledger: not for policy
FILE_ACCOUNTS = {"kernel": Account.KERNEL, "server": Account.SERVER}
BYTE_ACCOUNTS = {
    "metadata_bytes": Account.METADATA,
    "program_bytes": Account.PROGRAM,
    "server_bytes": Account.SERVER_MEMORY,
}
