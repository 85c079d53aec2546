"""Limits: how much of each resource a program, a server or all of them together may have, and what happens there.

A *family* is a program that the shell or the kernel has started, with everything that it has started in turn,
orphans included.  Starting more processes gives a program no more of a resource that is counted for its family. A part
of each resource of the whole system is reserved, so that the shell can start one more program whatever the others hold.
"""

from typing import Final, NamedTuple

from callgate.kernel.abi.memory import PAGE_SIZE, SECTOR_SIZE
from callgate.kernel.abi.selectors import MAX_ENDPOINTS, MAX_PROCESSES, MAX_THREADS, SLOTS


class Limit(NamedTuple):
    """A row of the table of limits."""

    what: str
    whose: str
    limit: str
    gives: str  # what happens at the limit


# Processes and threads.
PROCESSES_OF_FAMILY: Final = MAX_PROCESSES // 2
PROCESSES_RESERVED: Final = 4
THREADS_OF_PROCESS: Final = 64
THREADS_OF_FAMILY: Final = MAX_THREADS // 2
THREADS_RESERVED: Final = 16

# Low memory, in frames of 4,096 bytes.
FRAMES_OF_PROCESS: Final = 16384
FRAMES_OF_FAMILY_PART: Final = 2  # a family has at most 1/N of all
FRAMES_RESERVED_PROGRAMS: Final = 256  # the reserve that programs and servers leave …
FRAMES_RESERVED_SHELL: Final = 128  # … what the shell and what it starts leave …
FRAMES_RESERVED_FILES: Final = 64  # … and what copies of file data leave: for page tables, messages, disk requests
ALLOCATIONS_OF_PROCESS: Final = 2048

# Programs.
PROGRAM_BYTES: Final = 8 << 20  # of the file
PROGRAM_MEMORY: Final = 16 << 20  # of all its segments
PROGRAM_HEADERS: Final = 64
PROGRAMS_LOADING_BYTES: Final = 64 << 20  # read by START_PROCESS and not started yet, all together
PROGRAMS_LOADING_RESERVED: Final = PROGRAM_BYTES
PROGRAMS_LOADING_OF_FAMILY: Final = PROGRAMS_LOADING_BYTES // 2
SYMBOLS: Final = 8192  # that are kept for fault reports
SYMBOL_NAMES_BYTES: Final = 256 << 10
SYMBOL_NAME_BYTES: Final = 256

# Files and directories.
FILES_OF_PROCESS: Final = 64
DIRECTORIES_OF_PROCESS: Final = 64
DIRECTORIES_KEPT: Final = 32
DIRECTORY_PAGES_KEPT: Final = 1024
ABSENT_NAMES: Final = 256
FILES_OF_FAMILY: Final = 1024
DIRECTORIES_OF_FAMILY: Final = 512
HELD_OF_SERVER: Final = 4096  # open files, locks and spans, what it has not yet been told to forget included
SPANS_OF_FILE: Final = 768
SPANS: Final = 2048
SPANS_OF_FAMILY: Final = SPANS // 2  # on their way
MAPPED_BLOCKS: Final = 8192  # spans in windows: one that two windows show counts twice

# Requests to servers.
BATCH_ENTRIES: Final = SLOTS  # requests of a batch: as many as a process with a thread for each could have pending

# The disk cache and disks.
SERVER_BLOCKS_OWN: Final = 128  # each server can always lock 1/N of the cache's blocks
SERVER_BLOCKS_SHARED: Final = 4  # 1/N is for servers that want more, first come, first served, …
SERVER_BLOCKS_PART: Final = 8  # … none of which has more than 1/N of the cache, or SERVER_BLOCKS_LEAST
CHANGED_BLOCKS_PART: Final = 2  # 1/N of the cache's blocks may differ from the disk …
CHANGED_BLOCKS_OF_FAMILY_PART: Final = 2  # … of which a family has at most 1/N of what others have left
LOCK_BLOCKS_BYTES: Final = 1 << 20  # of one LOCK_BLOCKS
LOCK_BLOCKS_SECTORS: Final = LOCK_BLOCKS_BYTES // SECTOR_SIZE
SERVER_BLOCKS_LEAST: Final = LOCK_BLOCKS_BYTES // PAGE_SIZE + 1  # one LOCK_BLOCKS that begins and ends within a block
BLOCK_WINDOWS_OF_SERVER: Final = 1024
REQUESTS_OF_DISK: Final = 512
BLOCKS_ALONE: Final = 4096

# The log, in lines.
LOG_BURST: Final = 32
LOG_LINES_PER_SECOND: Final = 8  # of virtual time
LOG_LINE_CHARACTERS: Final = 1000

MEBI = 1 << 20

LIMITS: tuple[Limit, ...] = (
    Limit(
        "processes, including those that have ended and that their parent has not waited for",
        "a family",
        f"{PROCESSES_OF_FAMILY} of {MAX_PROCESSES}; the last {PROCESSES_RESERVED} are the shell's and the kernel's",
        "`START_PROCESS`: `NO_RESOURCES`",
    ),
    Limit("threads", "a process; a server", f"{THREADS_OF_PROCESS}; {SLOTS}", "`START_THREAD`: `NO_RESOURCES`"),
    Limit(
        "threads",
        "a family",
        f"{THREADS_OF_FAMILY} of {MAX_THREADS}; the last {THREADS_RESERVED} are the shell's, the kernel's, and first "
        "ones of programs that the shell starts",
        "`START_THREAD`, `START_PROCESS`: `NO_RESOURCES`",
    ),
    Limit(
        "pages of memory: private ones, page tables, stacks in the kernel, locked directories, one for each open file",
        "a process",
        f"{FRAMES_OF_PROCESS} ({FRAMES_OF_PROCESS * PAGE_SIZE // MEBI} MiB)",
        "`ALLOCATE`, `START_PROCESS`, `START_THREAD`, `LOCK_DIRECTORY`, `OPEN`, `MAP_FILE`: `NO_MEMORY`; "
        "a new page of the stack, or of a file where a page table is wanted: page fault",
    ),
    Limit(
        "pages of memory, and one for each span that is on its way to any of it",
        "a family",
        "half of low memory",
        "as above; a page of a file that has to be read: `MAP_FILE` gives `NO_MEMORY`, a touch is a page fault",
    ),
    Limit(
        "pages of low memory that stay free",
        "all together",
        f"{FRAMES_RESERVED_PROGRAMS} that programs and servers leave, {FRAMES_RESERVED_SHELL} that the shell and the "
        f"programs that it starts leave, {FRAMES_RESERVED_FILES} that copies of file data leave",
        "as above; cached file data is released first",
    ),
    Limit("pieces of memory from `ALLOCATE`", "a process", f"{ALLOCATIONS_OF_PROCESS}", "`ALLOCATE`: `NO_RESOURCES`"),
    Limit(
        "a program: bytes of its file, of its segments in memory, program headers",
        "one `START_PROCESS`",
        f"{PROGRAM_BYTES // MEBI} MiB, {PROGRAM_MEMORY // MEBI} MiB, {PROGRAM_HEADERS}",
        "`NOT_EXECUTABLE`",
    ),
    Limit(
        "bytes of programs that are being read",
        "all `START_PROCESS` of a family; all together",
        f"{PROGRAMS_LOADING_OF_FAMILY // MEBI} MiB; {PROGRAMS_LOADING_BYTES // MEBI} MiB, of which the last "
        f"{PROGRAMS_LOADING_RESERVED // MEBI} MiB are the shell's",
        "`START_PROCESS`: `NO_MEMORY`",
    ),
    Limit(
        "symbols and bytes of their names",
        "a program",
        f"{SYMBOLS}, {SYMBOL_NAMES_BYTES >> 10} KiB; {SYMBOL_NAME_BYTES} bytes of one name are shown",
        "a fault report without names",
    ),
    Limit("open files", "a process; a family", f"{FILES_OF_PROCESS}; {FILES_OF_FAMILY}", "`OPEN`: `NO_RESOURCES`"),
    Limit(
        "locked directories",
        "a process; a family",
        f"{DIRECTORIES_OF_PROCESS}; {DIRECTORIES_OF_FAMILY}",
        "`LOCK_DIRECTORY`: `NO_RESOURCES`",
    ),
    Limit(
        "open files, locked directories and spans that a server holds for others, and what it has not yet been "
        "told to forget",
        "a server",
        f"{HELD_OF_SERVER}",
        "`OPEN`, `LOCK_DIRECTORY`, `MAP_FILE`: `NO_RESOURCES`; while half of it is what the server has not yet "
        "been told, they wait for that first, for at most a second of virtual time",
    ),
    Limit(
        "versions of directories that are kept although no process has them locked, and their pages",
        "all together",
        f"{DIRECTORIES_KEPT}, {DIRECTORY_PAGES_KEPT} pages",
        "the least recently used one is given back to its server",
    ),
    Limit(
        "paths at which a server has found nothing, and for which it is not asked again",
        "a volume",
        f"{ABSENT_NAMES}",
        "the least recently used one is forgotten",
    ),
    Limit(
        "spans (ranges of a file that are in memory or on their way)",
        "a file; all files; on their way to a family",
        f"{SPANS_OF_FILE}; {SPANS}; {SPANS_OF_FAMILY}",
        "the most idle one is released; if all are on their way, `NO_MEMORY`",
    ),
    Limit(
        "spans in windows, one that several windows show counted for each",
        "all files together",
        f"{MAPPED_BLOCKS}",
        "the most idle one is released; if there is none, `NO_MEMORY`",
    ),
    Limit(
        "file data in the cache",
        "all files together",
        "three quarters of the cache, less what servers have locked",
        "the most idle data are released; if all are on their way, `NO_MEMORY`",
    ),
    Limit(
        "blocks of the cache that have been changed, or are mapped to be written (`--scratch`)",
        "all programs together; a family",
        f"1/{CHANGED_BLOCKS_PART} of the cache, also of programs that have ended, until the disk goes; "
        f"1/{CHANGED_BLOCKS_OF_FAMILY_PART} of what the others have left of that",
        "what is mapped and has not been changed is mapped read-only again; if all has been changed, a write is a page "
        "fault with the error `NO_MEMORY`",
    ),
    Limit(
        "blocks of the cache that `LOCK_BLOCKS` has locked",
        "a server; all servers",
        f"1/{SERVER_BLOCKS_PART} of the cache, {SERVER_BLOCKS_LEAST} blocks at least; of this 1/{SERVER_BLOCKS_OWN} in "
        f"any case, the rest out of 1/{SERVER_BLOCKS_SHARED} for all",
        "`LOCK_BLOCKS`: `NO_RESOURCES`",
    ),
    Limit("bytes", "one `LOCK_BLOCKS`", f"{LOCK_BLOCKS_BYTES // MEBI} MiB", "`BAD_ARGUMENT`"),
    Limit("pieces locked by `LOCK_BLOCKS`", "a server", f"{BLOCK_WINDOWS_OF_SERVER}", "`LOCK_BLOCKS`: `NO_RESOURCES`"),
    Limit(
        "disk requests",
        "a disk",
        f"{REQUESTS_OF_DISK}",
        "a thread that reads from it waits for one of them to end",
    ),
    Limit("requests", "a batch", f"{BATCH_ENTRIES}", "the IPC gate: `BAD_ARGUMENT`"),
    Limit("message slots", "a server", f"{SLOTS}", "a client waits, first come first served"),
    Limit("volumes", "the system", f"{MAX_ENDPOINTS}", "the volume is reported and not mounted"),
    Limit(
        "lines of the log",
        "a family, a server; the kernel itself has none",
        f"{LOG_BURST} at once, then {LOG_LINES_PER_SECOND} a second of virtual time, "
        f"{LOG_LINE_CHARACTERS} characters each",
        "they are left out, and the next line says how many",
    ),
)
