"""What policy raises when it refuses a call: an error code for the caller, words for the log."""

from callgate.kernel.abi.errors import ERROR_TEXT, ErrorCode


class PolicyError(Exception):
    """A system call, request or job that ends with an error code."""

    def __init__(self, code: ErrorCode, text: str = "") -> None:
        super().__init__(text or ERROR_TEXT[code])
        self.code = code


class Overdue(PolicyError):
    """A server has not answered in the time that was set for it."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.INTERRUPTED, "no answer in time")


class KernelPanic(Exception):
    """The kernel contradicts itself, or ring 0 faulted where no fault is expected."""
