"""Error codes of system calls and of the message's `error` field."""

from enum import IntEnum


class ErrorCode(IntEnum):
    """Why a call failed; returned in EAX with CF set."""

    OK = 0
    BAD_CALL = 1  # no such system call, operation or gate function
    BAD_ARGUMENT = 2
    BAD_ADDRESS = 3  # memory that the caller may not use in this way
    BAD_HANDLE = 4  # closed, never opened, or another process's
    NOT_FOUND = 5
    NOT_DIRECTORY = 6
    IS_DIRECTORY = 7
    NAME_TOO_LONG = 8
    NO_MEMORY = 9
    NO_RESOURCES = 10  # a table is full, or a limit is reached
    IO_ERROR = 11  # the disk reported an error
    CORRUPT = 12  # the file system contradicts itself
    SERVER_DIED = 13
    UNPLUGGED = 14
    KILLED = 15
    READ_ONLY = 16  # the file's attributes, or its volume's server, say so
    NOT_SUPPORTED = 17
    BAD_REPLY = 18  # the server broke the protocol
    END_OF_INPUT = 19
    NOT_EXECUTABLE = 20
    NO_CHILD = 21
    INTERRUPTED = 22  # Ctrl-C, while the call waited for a server
    NO_SCRATCH = 23  # files can be written to only if the machine was booted with --scratch
    COPIED_PAGE = 24  # a write to a page of a file that is not a whole block of the disk
    NOT_WRITABLE = 25  # a write through a window that was not opened for writing


ERROR_TEXT: dict[ErrorCode, str] = {
    ErrorCode.OK: "ok",
    ErrorCode.BAD_CALL: "no such call",
    ErrorCode.BAD_ARGUMENT: "bad argument",
    ErrorCode.BAD_ADDRESS: "bad address",
    ErrorCode.BAD_HANDLE: "bad handle",
    ErrorCode.NOT_FOUND: "no such file or directory",
    ErrorCode.NOT_DIRECTORY: "not a directory",
    ErrorCode.IS_DIRECTORY: "is a directory",
    ErrorCode.NAME_TOO_LONG: "name too long",
    ErrorCode.NO_MEMORY: "out of memory",
    ErrorCode.NO_RESOURCES: "a table is full, or a limit is reached",
    ErrorCode.IO_ERROR: "disk error",
    ErrorCode.CORRUPT: "the file system is damaged",
    ErrorCode.SERVER_DIED: "the file-system server died",
    ErrorCode.UNPLUGGED: "the disk was removed",
    ErrorCode.KILLED: "killed",
    ErrorCode.READ_ONLY: "the file or its volume is read-only",
    ErrorCode.NOT_SUPPORTED: "not supported",
    ErrorCode.BAD_REPLY: "the file-system server broke the protocol",
    ErrorCode.END_OF_INPUT: "end of input",
    ErrorCode.NOT_EXECUTABLE: "not an executable of this system",
    ErrorCode.NO_CHILD: "no such process",
    ErrorCode.INTERRUPTED: "interrupted",
    ErrorCode.NO_SCRATCH: "files can be written to only after callgate boot --scratch",
    ErrorCode.COPIED_PAGE: "this page of the file is a copy, which cannot be written to",
    ErrorCode.NOT_WRITABLE: "the file was not opened for writing",
}

#: The errors that a server may answer a request of the kernel with, and the error that the caller has then.  All other
#: codes are the kernel's own, which acts on them: a server that uses one of those has broken the protocol.
SERVER_ERRORS: dict[ErrorCode, ErrorCode] = {
    ErrorCode.BAD_CALL: ErrorCode.NOT_SUPPORTED,  # an operation that the server does not know; the call is fine
    ErrorCode.BAD_ARGUMENT: ErrorCode.BAD_ARGUMENT,
    ErrorCode.NOT_FOUND: ErrorCode.NOT_FOUND,
    ErrorCode.NOT_DIRECTORY: ErrorCode.NOT_DIRECTORY,
    ErrorCode.IS_DIRECTORY: ErrorCode.IS_DIRECTORY,
    ErrorCode.NAME_TOO_LONG: ErrorCode.NAME_TOO_LONG,
    ErrorCode.NO_MEMORY: ErrorCode.NO_MEMORY,  # the server's own memory
    ErrorCode.NO_RESOURCES: ErrorCode.NO_RESOURCES,  # the server's own tables
    ErrorCode.IO_ERROR: ErrorCode.IO_ERROR,
    ErrorCode.CORRUPT: ErrorCode.CORRUPT,
    ErrorCode.READ_ONLY: ErrorCode.READ_ONLY,
    ErrorCode.NOT_SUPPORTED: ErrorCode.NOT_SUPPORTED,
}


def error_of_server(value: int) -> ErrorCode:
    """Return the error that a caller has for a server's error `value`; BAD_REPLY if the server must not use it."""
    if value not in SERVER_ERRORS:
        return ErrorCode.BAD_REPLY
    return SERVER_ERRORS[ErrorCode(value)]
