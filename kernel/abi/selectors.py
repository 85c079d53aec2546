"""The global and local descriptor tables: which selector names what (Intel SDM vol. 3, 3.4).

A selector is index*8 + table indicator (4 = LDT) + requested privilege level.
"""

from typing import Final

SELECTOR_KERNEL_CODE: Final = 0x08
SELECTOR_KERNEL_DATA: Final = 0x10
SELECTOR_USER_CODE: Final = 0x18 | 3
SELECTOR_USER_DATA: Final = 0x20 | 3
SELECTOR_TSS: Final = 0x28

# Call gates of every process (GDT, DPL 3).
SELECTOR_SYSTEM_GATE: Final = 0x30 | 3
SELECTOR_IPC_GATE: Final = 0x38 | 3

# The one LDT: threads of server processes have it, all others have none.  Entry 1 is the gate that serves servers.
SELECTOR_SERVER_TABLE: Final = 0x40
SELECTOR_SERVER_GATE: Final = 0x08 | 4 | 3
LDT_ENTRIES: Final = 2

# What every request needs lies in the first page: descriptors of endpoints, and of the first threads.
GDT_FIRST_ENDPOINT: Final = 32
MAX_ENDPOINTS: Final = 32
GDT_FIRST_THREAD: Final = GDT_FIRST_ENDPOINT + MAX_ENDPOINTS
MAX_THREADS: Final = 512
MAX_PROCESSES: Final = 128
GDT_FIRST_MESSAGE: Final = GDT_FIRST_THREAD + MAX_THREADS
SLOTS: Final = 32
SLOT_ABANDONED: Final = 0xFFFF_FFFE  # instead of a slot: its request was posted and the client killed
MAX_MESSAGES: Final = MAX_ENDPOINTS * SLOTS
GDT_ENTRIES: Final = GDT_FIRST_MESSAGE + MAX_MESSAGES

# Interrupt vectors: the 8259A pair is programmed to 32..47.
VECTOR_IRQ: Final = 32
IRQ_TIMER: Final = 0
IRQ_SERIAL: Final = 4
IRQ_AHCI: Final = 11
IRQ_IDE_PRIMARY: Final = 14
IRQ_IDE_SECONDARY: Final = 15
