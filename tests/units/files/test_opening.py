"""Opening files in turn, on a plain guest: the CLOSE of the one before goes with the OPEN."""

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.selectors import SLOT_ABANDONED
from callgate.kernel.core.coroutines import RoutineCall
from callgate.kernel.files.names import Names
from callgate.kernel.files.opening import FileOpening
from callgate.kernel.ipc.slots import NO_SLOT
from plain_files import FileData
from plain_guest import drive, refusal

PATH = 0xC020_0000  # linear address of paths


@pytest.mark.parametrize(
    ("slot", "error", "raised", "held"),
    [
        (NO_SLOT, ErrorCode.NO_MEMORY, ErrorCode.NO_MEMORY, 1),
        (NO_SLOT, ErrorCode.INTERRUPTED, ErrorCode.INTERRUPTED, 1),
        (SLOT_ABANDONED, ErrorCode.OK, ErrorCode.INTERRUPTED, 0),
    ],
)
def test_a_close_that_an_open_was_to_carry_is_sent_only_if_the_open_was_not(
    slot: int, error: ErrorCode, raised: ErrorCode, held: int
) -> None:
    data = FileData()
    names = Names(data.requests, data.back)
    opening = FileOpening(data.files_state, names, data.shares, data.fetching, data.answers)
    endpoint = data.endpoint
    endpoint.closes_at_open, endpoint.held = True, 1
    data.back.add_close(endpoint, 5)
    carried: list[int] = []

    def refuse(call: RoutineCall) -> None:
        carried.append(call.esi)
        block = data.threads.block(data.thread)
        block["slot"], block["slot_error"] = slot, error

    with refusal(raised):
        drive(opening.open_object(endpoint, (PATH, 1), from_start=True), ipc_request=refuse)
    assert (carried, endpoint.held) == ([5], held)
    assert list(endpoint.releases.entries) == [(Operation.CLOSE, 5)] * held
