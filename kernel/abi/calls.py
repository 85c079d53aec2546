"""Numbers of gates' functions: system calls, server calls, operations, host calls (docs/gates.md)."""

from enum import IntEnum
from typing import Final


class SystemCall(IntEnum):
    """Functions of the system gate: EAX = function, arguments in EBX ECX EDX ESI EDI.

    Results in the same registers; CF set and EAX = ErrorCode on failure.  What each takes and returns
    stands in docs/gates.md.
    """

    EXIT = 0
    YIELD = 1
    WRITE = 2  # esi=address ecx=bytes -> eax=bytes written
    READ_CHARACTER = 3  # -> eax=byte; END_OF_INPUT
    ALLOCATE = 4  # ecx=bytes -> eax=linear address, zero-filled, page-aligned
    FREE = 5  # ebx=address given by ALLOCATE
    START_PROCESS = 6  # esi=path ecx=length edi=command line (ASCIIZ) -> eax=process id
    WAIT_PROCESS = 7  # ebx=process id -> eax=exit code
    KILL_PROCESS = 8  # ebx=process id
    START_THREAD = 9  # ebx=entry ecx=stack top edx=argument (in EAX at entry) -> eax=thread id
    VOLUME_INFORMATION = 10  # ebx=index edi=VolumeInformation
    LOCK_DIRECTORY = 11  # esi=path ecx=length -> eax=address ebx=version ecx=pages edx=lock edi=entries
    UNLOCK_DIRECTORY = 12  # edx=lock
    OPEN = 13  # esi=path ecx=length edx=OpenFlags -> eax=handle, edx:ecx=size in bytes, ebx=attributes
    CLOSE = 14  # ebx=handle
    MAP_FILE = 15  # ebx=handle edx:esi=position ecx=bytes wanted -> eax=address ecx=bytes there (0 = end) edx=sequence
    PROCESS_INFORMATION = 16  # ebx=index edi=ProcessInformation
    IPC_INFORMATION = 17  # ebx=index of endpoint edi=IpcInformation
    LEDGER = 18  # edi=LedgerInformation: the run's counters up to now
    CLOCK = 19  # -> edx:eax=retired instructions
    SLEEP = 20  # edx:ecx=instructions of virtual time
    TAKE_BREAK = 21  # -> eax=1 if there is a break of the console (Ctrl-C) for this process, taken hereby, else 0
    FILE_HANDLER = 22  # ebx=where to go on when code from esi up to edi touches a page of a file that cannot be had
    SET_DIRECTORY = 23  # esi=path ecx=length: where paths begin that do not begin with a slash, also for children
    READ_LINK = 24  # esi=path ecx=length edi=address edx=bytes there -> eax=bytes of the symbolic link's target


class ServerCall(IntEnum):
    """Functions of the server gate: EAX = function, EBX = message handle for replies.

    Every REPLY also waits for the next request and returns with EBX = linear address of its message page.
    What a reply carries stands in the page: `Message.count` and the data part; the kernel reads it after
    the page has left the server.
    """

    WAIT = 0
    REPLY_NONE = 1
    REPLY_REGISTERS = 2
    REPLY_DATA = 3  # Message.count bytes of data
    REPLY_OBJECT = 4  # data: dword page-aligned linear address, dword bytes
    REPLY_SECTORS = 5  # Message.count entries of 8 bytes (abi/volume.py) in the data part
    LOCK_BLOCKS = 6  # edx:esi=first sector of the partition ecx=sectors -> eax=address of that sector
    UNLOCK_BLOCKS = 7  # ebx=address given by LOCK_BLOCKS
    HOSTED_STEP = 8  # run the thread's hosted handler up to its next system call
    DIRECTORY_CHANGED = 9  # ebx=version of a directory: it is current no more


SERVER_CALL_FIRST: Final = int(ServerCall.LOCK_BLOCKS)
"""The server calls from here on are answered by policy, each by a host call; the others by machine code."""

SERVER_CALL_NO_WAIT: Final = 0x100
"""Added to WAIT or a REPLY: return at once, with EBX = 0 if no request is there (WAIT) or in any case (REPLY)."""


class Operation(IntEnum):
    """Requests that clients make of file-system servers; registers as in docs/gates.md."""

    NULL = 0  # returns every register as it was sent
    FREE_SPACE = 1  # -> edx:eax=free clusters ecx=bytes per cluster edi:esi=clusters in all
    VOLUME = 2  # -> data reply: label (UTF-8); eax=VolumeFlags ebx=serial number ecx=bytes of label
    LOCK_DIRECTORY = 3  # data=path -> object reply; ebx=version ecx=pages edi=entries edx=server's lock
    UNLOCK_DIRECTORY = 4  # edx=server's lock
    OPEN = 5  # data=path -> eax=server's file number, edx:ecx=size, ebx=attributes, edi=identity or 0
    CLOSE = 6  # eax=file number
    READ = 7  # ebx=file number edx:eax=position ecx=bytes wanted -> sectors, or object reply; edi=request number
    RELEASE = 8  # eax=request number given by READ: nobody uses its pages any more
    READ_LINK = 9  # data=path of a symbolic link -> data reply: its target (UTF-8); eax=bytes of it


OPERATION_SERVER_DEFINED: Final = 0x100
"""Operations from here on are the server's own; ring 3 may use them through the IPC gate."""


class HostCall(IntEnum):
    """Policy that ring-0 code asks of Python by `out number, eax` (the port is the number).

    Arguments and results lie in the thread control block; EAX is given besides.  ``*`` marks calls that
    may be answered by a coroutine: the stub runs the routines it awaits.
    """

    BOOT_DONE = 0xC0
    PANIC = 0xC1
    SCHEDULE = 0xC2  # eax=WaitReason: block the current thread, choose the next
    WAKE = 0xC3  # eax=thread selector
    HANDOFF = 0xC4  # eax=thread selector + WaitReason * 65536: wake it, block the current one, choose the next
    TICK = 0xC5
    YIELD = 0xC6
    EXCEPTION = 0xC7  # *
    SYSTEM = 0xC8  # * a system call that policy answers
    SERVER = 0xC9  # * a server call that policy answers
    RESUME = 0xCA  # * the routine that a coroutine awaited has returned
    FIRST_USE = 0xCB  # eax=slot: give a never used slot its page and selector
    SLOT_WAIT = 0xCC  # eax=0: queue the current thread for a slot; 1: leave the queue
    SLOT_GIVE = 0xCD  # eax=slot: hand it to the thread that has waited longest
    CONVERT = 0xCE  # * eax=slot: write what the reply type allows
    EXIT_THREAD = 0xCF
    DISK_DONE = 0xD0  # eax=address of a DiskRequest
    INPUT = 0xD1  # the console has input, or its end; eax=1: a break
    SLOT_DROP = 0xD2  # eax=slot: let go of the pages that its reply holds, nobody takes them
    DISK_CHANGED = 0xD6  # eax=disk: it has come or gone, see Disk.present
    DISK_WATCHED = 0xD7  # disk_watch has looked at what is in flight
    FILES_AGE = 0xD8  # * it is time to look at accessed bits of files
    FILE_READY = 0xD4  # eax=token of a SectorList: the last of its sectors has arrived
    SLOT_FAIL = 0xD5  # eax=slot: posted to an endpoint that has died; fail it
    POST_RELEASES = 0xDC  # * post deferred releases, as many as have been granted slots
    JOB = 0xD3  # * eax=policy's number of the job that a kernel thread runs


HOST_CALL_FIRST: Final = 0xC0
HOST_CALLS_LIMIT: Final = 32  # how many numbers from HOST_CALL_FIRST on are set aside
SYSTEM_CALLS_LIMIT: Final = 32  # the same for system calls
SERVER_CALLS_LIMIT: Final = 8  # and for server calls from SERVER_CALL_FIRST on
assert all(0 <= call - HOST_CALL_FIRST < HOST_CALLS_LIMIT for call in HostCall)
assert all(call < SYSTEM_CALLS_LIMIT for call in SystemCall)
assert all(call - SERVER_CALL_FIRST < SERVER_CALLS_LIMIT for call in ServerCall)


class WaitReason(IntEnum):
    """What a blocked thread waits for, in the words that `ps` shows."""

    NOTHING = 0
    REPLY = 1
    SLOT = 2
    REQUEST = 3  # a server thread waits for work
    DISK = 4
    INPUT = 5
    CHILD = 6
    SLEEP = 7
    FILE = 8  # data of a file, on its way
