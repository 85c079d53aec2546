"""Errors of policy: the class says whose fault it is, and each of the kernel's own codes has one class."""

import copy

import pytest
from callgate.kernel.abi.errors import SERVER_ERRORS, ErrorCode
from callgate.kernel.core.errors import (
    KERNEL_ERRORS,
    CallerError,
    DiskError,
    GivenUp,
    PolicyError,
    ServerAnswer,
    ServerFault,
    ServerShortage,
    Shortage,
    error_of_code,
    error_of_reply,
)
from callgate.kernel.memory.frames import OutOfMemory

#: Codes that no manager of the kernel raises: those that only servers return, that of the console, and OK.
OF_OTHERS = {
    *(ErrorCode.OK, ErrorCode.END_OF_INPUT),
    *(ErrorCode.NOT_DIRECTORY, ErrorCode.CORRUPT, ErrorCode.NOT_SUPPORTED),
}


def test_every_code_that_the_kernel_raises_belongs_to_one_class() -> None:
    owners = {code: [kind for kind in KERNEL_ERRORS if code in kind.CODES] for code in ErrorCode}
    assert {code for code, kinds in owners.items() if not kinds} == OF_OTHERS
    assert {code: kinds for code, kinds in owners.items() if len(kinds) > 1} == {}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (ErrorCode.NOT_WRITABLE, CallerError),
        (ErrorCode.SERVER_DIED, ServerFault),
        (ErrorCode.NO_RESOURCES, Shortage),
        (ErrorCode.UNPLUGGED, DiskError),
        (ErrorCode.KILLED, GivenUp),
    ],
)
def test_a_code_on_record_is_raised_as_the_error_of_its_class(code: ErrorCode, kind: type[PolicyError]) -> None:
    assert type(error_of_code(code)) is kind


@pytest.mark.parametrize("code", list(ErrorCode))
def test_a_servers_reply_is_its_answer_its_shortage_or_its_fault(code: ErrorCode) -> None:
    error = error_of_reply(code)
    if code not in SERVER_ERRORS:
        assert (type(error), error.code) == (ServerFault, ErrorCode.BAD_REPLY)
    elif code in {ErrorCode.NO_MEMORY, ErrorCode.NO_RESOURCES}:
        assert type(error) is ServerShortage
    else:
        assert (type(error), error.code) == (ServerAnswer, SERVER_ERRORS[code])


def test_an_error_with_a_code_of_another_class_is_a_mistake_of_the_kernel() -> None:
    with pytest.raises(AssertionError, match="Shortage does not stand for IO_ERROR"):
        Shortage(ErrorCode.IO_ERROR)


@pytest.mark.parametrize("error", [DiskError(ErrorCode.IO_ERROR, "sector 8"), GivenUp(ErrorCode.KILLED), OutOfMemory()])
def test_an_error_on_record_is_raised_anew_and_survives_a_snapshot(error: PolicyError) -> None:
    for other in (error.fresh(), copy.deepcopy(error)):
        assert (type(other), other.code, str(other)) == (type(error), error.code, str(error))
        assert other is not error
