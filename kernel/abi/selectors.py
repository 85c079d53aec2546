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

# The gate that serves servers: LDT entry 1, present only in the LDT of server processes.
SELECTOR_SERVER_GATE: Final = 0x08 | 4 | 3

GDT_ENTRIES: Final = 2048
GDT_FIRST_THREAD: Final = 64
MAX_THREADS: Final = 512
GDT_FIRST_LDT: Final = GDT_FIRST_THREAD + MAX_THREADS
MAX_PROCESSES: Final = 128
GDT_FIRST_ENDPOINT: Final = GDT_FIRST_LDT + MAX_PROCESSES
MAX_ENDPOINTS: Final = 32
GDT_FIRST_MESSAGE: Final = GDT_FIRST_ENDPOINT + MAX_ENDPOINTS
SLOTS: Final = 32
SLOT_ABANDONED: Final = 0xFFFF_FFFE  # instead of a slot: its request was posted and the client killed
MAX_MESSAGES: Final = MAX_ENDPOINTS * SLOTS
assert GDT_FIRST_MESSAGE + MAX_MESSAGES <= GDT_ENTRIES

LDT_ENTRIES: Final = 8

# Interrupt vectors: the 8259A pair is programmed to 32..47.
VECTOR_IRQ: Final = 32
IRQ_TIMER: Final = 0
IRQ_SERIAL: Final = 4
IRQ_AHCI: Final = 11
IRQ_IDE_PRIMARY: Final = 14
IRQ_IDE_SECONDARY: Final = 15
