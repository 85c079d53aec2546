"""What policy raises when it refuses a call: an error code for the caller, words for the log."""

from callgate.kernel.abi.errors import ERROR_TEXT, ErrorCode


class PolicyError(Exception):
    """A system call, request or job that ends with an error code."""

    def __init__(self, code: ErrorCode, text: str = "") -> None:
        super().__init__(text or ERROR_TEXT[code])
        self.code = code


class Abandoned(PolicyError):
    """KILLED while a server had the request: unlike one that was killed before, it has been heard of."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.KILLED)


class KernelPanic(Exception):
    """The kernel contradicts itself, or ring 0 faulted where no fault is expected."""
