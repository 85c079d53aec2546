"""The address spaces: where things lie, linear and physical (design.md, "The machine").

All numbers are bytes.  Three GiB of user space below `KERNEL_BASE`; one shared page directory above it.
"""

from typing import Final

PAGE_SIZE: Final = 4096
PAGE_SHIFT: Final = 12
LARGE_PAGE_SIZE: Final = 2 << 20
SECTOR_SIZE: Final = 512
SECTORS_PER_PAGE: Final = PAGE_SIZE // SECTOR_SIZE

# User space, ring 3.
USER_PROGRAM: Final = 0x0040_0000  # where programs are linked
USER_HEAP: Final = 0x1000_0000  # memory given by SystemCall.ALLOCATE grows from here
USER_FILES: Final = 0x4000_0000  # file windows and directory pages mapped into clients
USER_FILES_END: Final = 0xA000_0000
# The numbers of message pages and of a program's first pages differ in the lower six bits, by which the engine's TLB
# finds an entry: else a server's code would drop its message's.
USER_MESSAGES: Final = 0xA002_0000  # the 32 message pages of a server, page i at +4096*i
USER_METADATA: Final = 0xA020_0000  # disk blocks locked by a server (read-only)
USER_METADATA_END: Final = 0xB000_0000
USER_STACK_TOP: Final = 0xBFFF_F000  # first thread's stack ends here; the page above stays unmapped
USER_STACK_SIZE: Final = 0x0001_0000
USER_ARGUMENTS: Final = 0xBFF0_0000  # read-only: the command line (ASCIIZ), and after it the current directory
USER_END: Final = 0xC000_0000

# Kernel space, ring 0, the same in every process.
KERNEL_BASE: Final = 0xC000_0000  # direct map: linear = physical + KERNEL_BASE, all of low RAM
KERNEL_LOAD: Final = 0x0010_0000  # physical address of the kernel image
LOW_MEMORY_LEAST: Final = 16 << 20  # with which a machine boots
DIRECT_MAP_LIMIT: Final = 0x3000_0000  # most low RAM that the direct map holds (768 MiB)
KERNEL_STACKS: Final = 0xF400_0000  # kernel stacks of the threads, each above an unmapped guard
KERNEL_MMIO: Final = 0xF000_0000  # device registers, uncached
KERNEL_WINDOW: Final = 0xF800_0000  # temporary mappings of high pages (edge copies)

# Physical.
BOOT_INFORMATION: Final = 0x0000_8000  # the loader leaves the BootInformation page here
HIGH_MEMORY: Final = 0x1_0000_0000  # disk cache and file data only

# PAE entry bits (Intel SDM vol. 3, 4.4).
PTE_PRESENT: Final = 0x001
PTE_WRITABLE: Final = 0x002
PTE_USER: Final = 0x004
PTE_WRITE_THROUGH: Final = 0x008
PTE_CACHE_DISABLE: Final = 0x010
PTE_ACCESSED: Final = 0x020
PTE_ACCESSED_BIT: Final = 5
PTE_DIRTY: Final = 0x040
PTE_LARGE: Final = 0x080
PTE_GLOBAL: Final = 0x100
PTE_NX_HIGH: Final = 0x8000_0000  # bit 63, as it stands in the high half of an entry
#: Of a message page that its server has: the CPU need not mark it accessed and dirty, which takes a second page walk.
MESSAGE_PAGE_BITS: Final = PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_ACCESSED | PTE_DIRTY
