"""Numbers of gates' functions: system calls, server calls, operations, host calls (docs/gates.md).

A system, server or host call is its number and how it is answered.  The kernel's tables are made of these
facts, when it is assembled and when it is composed, so that a call without them is an error here.
"""

from collections.abc import Iterable
from enum import Enum, IntEnum
from typing import Final

from callgate.kernel.abi.answered import Answered


class SystemAnswer(Enum):
    """Where system_gate goes with a system call."""

    MACHINE_CODE = 0
    """To a routine of its own, which `system_calls` names (asm/kernel/entry/gates.asm)."""

    POLICY = 1
    """To policy, by the host call SYSTEM."""

    PATH_THEN_POLICY = 2
    """To policy, after ECX bytes at ESI have been copied into the thread's path page (`copy_path`)."""


_CODE, _POLICY, _PATH = SystemAnswer.MACHINE_CODE, SystemAnswer.POLICY, SystemAnswer.PATH_THEN_POLICY


class SystemCall(Answered):
    """Functions of the system gate: EAX = function, arguments in EBX ECX EDX ESI EDI.

    Results in the same registers; CF set and EAX = ErrorCode on failure.  docs/gates.md says what each takes and
    returns.
    """

    answer: SystemAnswer

    EXIT = 0, _POLICY
    YIELD = 1, _POLICY
    WRITE = 2, _CODE  # esi=address ecx=bytes -> eax=bytes written
    READ_CHARACTER = 3, _CODE  # -> eax=byte; END_OF_INPUT
    ALLOCATE = 4, _POLICY  # ecx=bytes -> eax=linear address, zero-filled, page-aligned
    FREE = 5, _POLICY  # ebx=address given by ALLOCATE
    START_PROCESS = 6, _PATH  # esi=path ecx=length edi=command line (ASCIIZ) -> eax=process id
    WAIT_PROCESS = 7, _POLICY  # ebx=process id -> eax=exit code
    KILL_PROCESS = 8, _POLICY  # ebx=process id
    START_THREAD = 9, _POLICY  # ebx=entry ecx=stack top edx=argument (in EAX at entry) -> eax=thread id
    VOLUME_INFORMATION = 10, _POLICY  # ebx=index edi=VolumeInformation
    LOCK_DIRECTORY = 11, _PATH  # esi=path ecx=length -> eax=address ebx=version ecx=pages edx=lock edi=entries
    UNLOCK_DIRECTORY = 12, _POLICY  # edx=lock
    OPEN = 13, _PATH  # esi=path ecx=length edx=OpenFlags -> eax=handle, edx:ecx=size in bytes, ebx=attributes
    CLOSE = 14, _POLICY  # ebx=handle
    MAP_FILE = 15, _POLICY  # ebx=handle edx:esi=position ecx=bytes wanted -> eax=address ecx=bytes, 0=end edx=sequence
    PROCESS_INFORMATION = 16, _POLICY  # ebx=index edi=ProcessInformation
    IPC_INFORMATION = 17, _POLICY  # ebx=index of endpoint edi=IpcInformation
    LEDGER = 18, _POLICY  # edi=LedgerInformation: the run's counters up to now
    CLOCK = 19, _POLICY  # -> edx:eax=retired instructions
    SLEEP = 20, _POLICY  # edx:ecx=instructions of virtual time
    TAKE_BREAK = (
        21,
        _CODE,
    )  # -> eax=1 if the console has sent this process a break (Ctrl-C), which this call takes; else 0
    FILE_HANDLER = 22, _POLICY  # ebx=where to resume if code in [esi, edi) touches a file page that cannot be provided
    SET_DIRECTORY = 23, _PATH  # esi=path ecx=length: where paths without a leading slash begin, also for children
    READ_LINK = 24, _PATH  # esi=path ecx=length edi=address edx=bytes there -> eax=bytes of the link's target;
    # of a directory and names of links in it, each after a zero byte: of theirs, as Operation.READ_LINKS has them


class ServerAnswer(Enum):
    """Where server_gate goes with a server call."""

    WAIT = 0
    """To machine code that waits for a request."""

    REPLY = 1
    """To machine code that answers a request, then waits."""

    POLICY = 2
    """To policy, by the host call SERVER."""


class ServerCall(Answered):
    """Functions of the server gate: EAX = function, EBX = message handle for replies.

    Every REPLY also waits for the next request and returns with EBX = linear address of its message page.
    The content of a reply is in the page: `Message.count` and the data part; the kernel reads it after
    the page has left the server.
    """

    answer: ServerAnswer

    WAIT = 0, ServerAnswer.WAIT
    REPLY_NONE = 1, ServerAnswer.REPLY
    REPLY_REGISTERS = 2, ServerAnswer.REPLY
    REPLY_DATA = 3, ServerAnswer.REPLY  # Message.count bytes of data
    REPLY_OBJECT = 4, ServerAnswer.REPLY  # data: dword page-aligned linear address, dword bytes
    REPLY_SECTORS = 5, ServerAnswer.REPLY  # Message.count entries of 8 bytes (abi/volume.py) in the data part
    LOCK_BLOCKS = 6, ServerAnswer.POLICY  # edx:esi=first sector of the partition ecx=sectors -> eax=its address
    UNLOCK_BLOCKS = 7, ServerAnswer.POLICY  # ebx=address given by LOCK_BLOCKS
    HOSTED_STEP = 8, ServerAnswer.POLICY  # run the thread's hosted handler up to its next system call
    DIRECTORY_CHANGED = 9, ServerAnswer.POLICY  # ebx=version of a directory that is no longer current


SERVER_REPLY_FIRST: Final = min(call.value for call in ServerCall if call.answer is ServerAnswer.REPLY)
SERVER_REPLY_LAST: Final = max(call.value for call in ServerCall if call.answer is ServerAnswer.REPLY)
"""The server calls from the first to the last of these are replies, which machine code sends."""

SERVER_CALL_FIRST: Final = SERVER_REPLY_LAST + 1
"""The server calls from here on are answered by policy, each by a host call."""

SERVER_CALL_NO_WAIT: Final = 0x100
"""Added to WAIT or a REPLY: return at once, with EBX = 0 if no request is there (WAIT) or in any case (REPLY)."""


class Operation(IntEnum):
    """Requests that clients make of file-system servers; registers as in docs/gates.md."""

    NULL = 0  # returns every register as it was sent
    FREE_SPACE = 1  # -> edx:eax=free clusters ecx=bytes per cluster edi:esi=clusters in all
    VOLUME = 2  # -> data reply: label (UTF-8); eax=VolumeFlags ebx=serial number ecx=bytes of label
    LOCK_DIRECTORY = 3  # data=path -> object reply; ebx=version ecx=pages edi=entries edx=server's lock
    UNLOCK_DIRECTORY = 4  # edx=server's lock
    OPEN = 5  # data=path ecx=bytes of first data wanted -> eax=server's file number, edx:ecx=size, ebx=attributes,
    # edi=identity or 0; with a sectors reply the data at the beginning, esi=bytes covered; esi=file to close, or 0
    CLOSE = 6  # eax=file number
    READ = 7  # ebx=file number edx:eax=position ecx=bytes wanted -> sectors, or object reply; edi=request number
    RELEASE = 8  # eax=request number given by READ: its pages are no longer used
    READ_LINK = 9  # data=path of a symbolic link -> data reply: its target (UTF-8); eax=bytes of it
    BATCH = 10  # data=BatchEntry array, one for each request -> registers; data=the same with results
    READ_LINKS = 11  # data=path of a directory, names of symbolic links in it, each after a zero byte -> data reply:
    # for each, in order, 16 bits of length and its target, 0=ask for it by READ_LINK; eax=bytes


NAME_ABSENT: Final = 1
"""EDI of a reply NOT_FOUND to OPEN, LOCK_DIRECTORY or READ_LINK: the path leads nowhere until DIRECTORY_CHANGED."""

OPEN_CLOSES: Final = 1 << 31
"""In EBX of the reply to OPEN: this server closes the file that ESI of an OPEN names, whatever becomes of the OPEN."""

OPERATION_SERVER_DEFINED: Final = 0x100
"""Operations from here on are the server's own; ring 3 may use them through the IPC gate."""


class HostAnswer(Enum):
    """How a host call is answered, and so which macro of asm/kernel/entry/macros.inc makes it."""

    AT_ONCE = 0
    """Before the OUT instruction ends (HOST)."""

    AWAITS = 1
    """A coroutine may answer: the stub runs the routines that it awaits (POLICY)."""


_AT_ONCE, _AWAITS = HostAnswer.AT_ONCE, HostAnswer.AWAITS


class HostCall(Answered):
    """Policy that ring-0 code asks of Python by `out number, eax` (the port is the number).

    Arguments and results lie in the thread control block; EAX is given besides.
    """

    answer: HostAnswer

    BOOT_DONE = 0xC0, _AT_ONCE
    PANIC = 0xC1, _AT_ONCE
    SCHEDULE = 0xC2, _AT_ONCE  # eax=WaitReason: block the current thread, choose the next
    WAKE = 0xC3, _AT_ONCE  # eax=thread selector
    HANDOFF = 0xC4, _AT_ONCE  # eax=thread selector + WaitReason * 65536: wake it, block the current, choose the next
    TICK = 0xC5, _AT_ONCE
    YIELD = 0xC6, _AT_ONCE
    EXCEPTION = 0xC7, _AWAITS
    SYSTEM = 0xC8, _AWAITS  # a system call that policy answers
    SERVER = 0xC9, _AWAITS  # a server call that policy answers
    RESUME = 0xCA, _AT_ONCE  # the routine that a coroutine awaited has returned
    FIRST_USE = 0xCB, _AT_ONCE  # eax=slot: give a never used slot its page and selector
    SLOT_WAIT = 0xCC, _AT_ONCE  # eax=0: queue the current thread for a slot; 1: leave the queue
    SLOT_GIVE = 0xCD, _AT_ONCE  # eax=slot: hand it to the thread that has waited longest
    CONVERT = 0xCE, _AT_ONCE  # eax=slot: check the reply's content, and write what its type allows
    EXIT_THREAD = 0xCF, _AWAITS
    DISK_DONE = 0xD0, _AT_ONCE  # eax=address of a DiskRequest
    INPUT = 0xD1, _AT_ONCE  # the console has input, or its end; eax=1: a break
    SLOT_DROP = 0xD2, _AT_ONCE  # eax=slot: release the pages that its reply holds, which no client takes
    REPLIED = 0xD9, _AWAITS  # eax=slot: the reply to a request of policy's own is in its page
    DISK_CHANGED = 0xD6, _AT_ONCE  # eax=disk: it was plugged in or removed, see Disk.present
    DISK_WATCHED = 0xD7, _AT_ONCE  # disk_watch has checked the commands in flight
    FILES_AGE = 0xD8, _AWAITS  # it is time to check the accessed bits of files
    FILE_READY = 0xD4, _AT_ONCE  # eax=token of a SpanRecord: the last of its sectors has arrived
    SLOT_FAIL = 0xD5, _AT_ONCE  # eax=slot: posted to an endpoint that has died; fail it
    POST_RELEASES = 0xDC, _AWAITS  # post deferred releases, as many as have been granted slots
    JOB = 0xD3, _AWAITS  # eax=policy's number of the job that a kernel thread runs


HOST_CALL_FIRST: Final = 0xC0
HOST_CALLS_LIMIT: Final = 32  # how many numbers from HOST_CALL_FIRST on are reserved
SYSTEM_CALLS_LIMIT: Final = 32  # the same for system calls
SERVER_CALLS_LIMIT: Final = 8  # and for server calls from SERVER_CALL_FIRST on
assert all(0 <= call - HOST_CALL_FIRST < HOST_CALLS_LIMIT for call in HostCall)
assert all(call < SYSTEM_CALLS_LIMIT for call in SystemCall)
assert all(call - SERVER_CALL_FIRST < SERVER_CALLS_LIMIT for call in ServerCall)
assert all((call >= SERVER_CALL_FIRST) == (call.answer is ServerAnswer.POLICY) for call in ServerCall)


def bits(numbers: Iterable[int]) -> int:
    """Return a set of numbers as assembly can test it: bit n for number n."""
    return sum(1 << number for number in numbers)


SYSTEM_CALLS: Final = len(SystemCall)
assert sorted(SystemCall) == list(range(SYSTEM_CALLS))
SYSTEM_CALLS_OF_POLICY: Final = bits(call for call in SystemCall if call.answer is not SystemAnswer.MACHINE_CODE)
SYSTEM_CALLS_WITH_PATH: Final = bits(call for call in SystemCall if call.answer is SystemAnswer.PATH_THEN_POLICY)
HOST_CALLS_AWAITING: Final = bits(call - HOST_CALL_FIRST for call in HostCall if call.answer is HostAnswer.AWAITS)


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
    CALL = 9  # a reply, at the gate, by which it can come straight back
