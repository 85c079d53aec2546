"""Replies as they are checked and translated, and requests that policy makes, on a plain IPC room."""

import struct

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import USER_HEAP
from callgate.kernel.abi.message import MESSAGE_DATA_SIZE, Message, ReplyType, SlotState
from callgate.kernel.abi.selectors import SLOT_ABANDONED
from callgate.kernel.core.coroutines import RoutineCall
from callgate.kernel.core.errors import DiskError, GivenUp, Overdue, ServerFault
from callgate.kernel.core.records import SectorPiece
from callgate.kernel.ipc.requests import Requests
from callgate.kernel.ipc.slots import NO_SLOT
from plain_guest import drive, refusal
from plain_ipc import DATA, Ipc, answers


@pytest.fixture
def ipc() -> Ipc:
    return Ipc()


# Replies.


def reply(ipc: Ipc, kind: ReplyType, count: int, data: bytes) -> Message:
    """Convert a server's reply in slot 0."""
    slot = ipc.take(state=SlotState.SERVED)[0]
    page = ipc.slots.message(ipc.endpoint, slot)
    page[DATA : DATA + len(data)] = data
    message = Message.from_buffer(page)
    message.reply, message.count = kind, count
    ipc.replies.host_convert(slot)
    return message


def refused(ipc: Ipc, message: Message) -> bool:
    return (
        (message.error, message.eax, message.eflags, message.count) == (ErrorCode.BAD_REPLY, ErrorCode.BAD_REPLY, 1, 0)
        and ipc.fields["bad_replies"] == 1
        and ipc.lines[-1].startswith("d0p1: reply refused: ")
    )


def test_reply_data_may_reach_to_the_end_of_the_page(ipc: Ipc) -> None:
    assert reply(ipc, ReplyType.DATA, MESSAGE_DATA_SIZE, b"").error == ErrorCode.OK


def test_reply_data_that_do_not_fit_the_page_are_refused(ipc: Ipc) -> None:
    assert refused(ipc, reply(ipc, ReplyType.DATA, MESSAGE_DATA_SIZE + 1, b""))


def test_an_objects_pages_become_addresses_that_are_held_for_the_client(ipc: Ipc) -> None:
    server = ipc.endpoint.process
    address = ipc.processes.allocate(server, 2 * 4096)
    message = reply(ipc, ReplyType.OBJECT, 0, struct.pack("<II", address, 4097))
    frames = [server.pages[address], server.pages[address + 4096]]
    assert (message.count, list(struct.unpack("<2Q", bytes(message.data)[:16]))) == (2, frames)
    assert [ipc.low.holders[frame] for frame in frames] == [2, 2]
    ipc.slots.drop_pins(ipc.endpoint, 0)
    assert [ipc.low.holders[frame] for frame in frames] == [1, 1]


@pytest.mark.parametrize(
    ("base", "size"),
    [(USER_HEAP, 2 * 4096 + 1), (USER_HEAP + 1, 1), (0, 1), (USER_HEAP, 0xFFFF_FFFF), (0xFFFF_F000, 9000)],
)
def test_an_object_that_is_not_all_the_servers_own_is_refused_and_nothing_of_it_is_held(
    ipc: Ipc, base: int, size: int
) -> None:
    server = ipc.endpoint.process
    address = ipc.processes.allocate(server, 2 * 4096)
    assert address == USER_HEAP
    assert refused(ipc, reply(ipc, ReplyType.OBJECT, 0, struct.pack("<II", base, size)))
    assert {ipc.low.holders[frame] for frame in server.pages.values()} == {1}


def test_a_reply_of_sectors_is_refused_for_a_program_and_registers_carry_no_data(ipc: Ipc) -> None:
    assert reply(ipc, ReplyType.REGISTERS, 9, b"").count == 0
    ipc.run(ipc.thread)
    assert refused(ipc, reply(ipc, ReplyType.SECTORS, 0, b""))


@pytest.mark.parametrize(
    ("entry", "piece"),
    [
        (0, SectorPiece(63, 7, 1)),  # the endpoint begins at sector 63
        (1 | 7 << 60, SectorPiece(64, 0, 8)),
        (999, SectorPiece(1062, 6, 1)),
        (1 << 63 | 2 | 5 << 60, SectorPiece(None, 2, 6)),
        (1000, None),  # outside
        (998 | 2 << 60, None),
        (0 | 1 << 60, None),  # over a block's end
        (1 << 63 | 7 | 1 << 60, None),  # a hole over a page's end
        ((1 << 60) - 1, None),
    ],
)
def test_a_piece_of_a_sectors_reply_lies_in_the_partition_and_in_one_block(
    ipc: Ipc, entry: int, piece: SectorPiece | None
) -> None:
    slot = ipc.take()[0]
    page = ipc.slots.message(ipc.endpoint, slot)
    struct.pack_into("<Q", page, DATA, entry)
    Message.from_buffer(page).count = 1
    if piece is not None:
        assert ipc.replies.sector_pieces(ipc.endpoint, page) == [piece]
        return
    with refusal(ErrorCode.BAD_REPLY):
        ipc.replies.sector_pieces(ipc.endpoint, page)


WHOLE = 7 << 60


@pytest.mark.parametrize(
    ("entries", "pieces"),
    [
        ([1, 9, 17], [SectorPiece(64, 0, 24)]),
        ([1, 9, 25, 33, 17], [SectorPiece(64, 0, 16), SectorPiece(88, 0, 16), SectorPiece(80, 0, 8)]),
        ([9, 9], [SectorPiece(72, 0, 8)] * 2),
        ([985], [SectorPiece(1048, 0, 8)]),
        ([985, 993], None),  # the last one leaves the partition of 1,000 sectors
        ([2, 10], None),  # over the ends of blocks
        ([(1 << 40) - 8, 1 << 40], None),
        ([(1 << 60) - 7, (1 << 60) + 1], None),  # its number runs into the count
    ],
)
def test_whole_blocks_of_a_sectors_reply_that_follow_each_other_are_one_piece_within_the_partition(
    ipc: Ipc, entries: list[int], pieces: list[SectorPiece] | None
) -> None:
    slot = ipc.take()[0]
    page = ipc.slots.message(ipc.endpoint, slot)
    struct.pack_into(f"<{len(entries)}Q", page, DATA, *((WHOLE + entry) % (1 << 64) for entry in entries))
    Message.from_buffer(page).count = len(entries)
    if pieces is not None:
        assert ipc.replies.sector_pieces(ipc.endpoint, page) == pieces
        return
    with refusal(ErrorCode.BAD_REPLY):
        ipc.replies.sector_pieces(ipc.endpoint, page)


def test_more_entries_than_a_page_holds_are_refused(ipc: Ipc) -> None:
    slot = ipc.take()[0]
    ipc.message(slot).count = 507
    with refusal(ErrorCode.BAD_REPLY):
        ipc.replies.sector_pieces(ipc.endpoint, ipc.slots.message(ipc.endpoint, slot))


# Requests.


def test_a_request_of_policy_names_its_operation_and_endpoint_and_returns_the_data(ipc: Ipc) -> None:
    async def ask() -> tuple[int, bytes]:
        reply = await ipc.requests.make(ipc.endpoint, Operation.VOLUME, eax=5, data=(0xC000_1000, 3))
        return reply.registers.ebx, await reply.take_data()

    found, calls = drive(ask(), ipc_request=answers(ipc, ReplyType.DATA, b"LABEL", ebx=7))
    assert found == (7, b"LABEL")
    assert [(call.name, call.eax) for call in calls] == [("ipc_request", 5), ("ipc_finish", 0)]
    block = ipc.threads.block(ipc.thread)
    assert [block[f"request_{name}"] for name in ("operation", "endpoint", "data", "bytes")] == [
        Operation.VOLUME, 32 * 8, 0xC000_1000, 3,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (ErrorCode.NOT_FOUND, ErrorCode.NOT_FOUND),
        (ErrorCode.KILLED, ErrorCode.BAD_REPLY),  # a server must not use the kernel's codes
        (ErrorCode.UNPLUGGED, ErrorCode.BAD_REPLY),
        (0, ErrorCode.BAD_REPLY),
        (999, ErrorCode.BAD_REPLY),
    ],
)
def test_an_error_reply_releases_the_slot_and_only_allowed_codes_are_passed_on(
    ipc: Ipc, said: int, heard: ErrorCode
) -> None:
    asked, finished = ipc.requests.make(ipc.endpoint, Operation.OPEN), []
    with refusal(heard):
        drive(asked, ipc_request=answers(ipc, failed=1, eax=said), ipc_finish=finished.append)
    assert len(finished) == 1


def test_a_server_can_report_that_its_disk_is_gone_only_if_it_is(ipc: Ipc) -> None:
    gone = Requests(ipc.guest, ipc.threads, ipc.slots, lambda disk: disk not in (0x100, -1))
    assert isinstance(gone.error_of(ipc.endpoint, ErrorCode.UNPLUGGED), DiskError)
    assert gone.error_of(ipc.endpoint, ErrorCode.NOT_FOUND).code == ErrorCode.NOT_FOUND
    ipc.endpoint.disk = -1  # none, which cannot go
    assert isinstance(gone.error_of(ipc.endpoint, ErrorCode.UNPLUGGED), ServerFault)
    ipc.endpoint.dead, ipc.endpoint.error = True, ErrorCode.SERVER_DIED
    assert isinstance(gone.error_of(ipc.endpoint, ErrorCode.NOT_FOUND), ServerFault)


def test_a_request_without_a_slot_or_one_given_up_has_the_kernels_error(ipc: Ipc) -> None:
    block = ipc.threads.block(ipc.thread)

    def without(_call: RoutineCall) -> None:
        block["slot"], block["slot_error"] = NO_SLOT, ErrorCode.SERVER_DIED

    def given_up(_call: RoutineCall) -> None:
        block["slot"] = SLOT_ABANDONED

    for routine, code in ((without, ErrorCode.SERVER_DIED), (given_up, ErrorCode.INTERRUPTED)):
        with refusal(code):
            drive(ipc.requests.make(ipc.endpoint, Operation.OPEN), ipc_request=routine)
    ipc.threads.kill(ipc.thread)
    with refusal(ErrorCode.KILLED):  # without a request
        drive(ipc.requests.make(ipc.endpoint, Operation.OPEN))


def test_a_server_that_does_not_answer_in_time_is_overdue_and_the_next_wait_is_not_interrupted(
    ipc: Ipc,
) -> None:
    def sleep(_call: RoutineCall) -> None:
        ipc.now(5000)
        ipc.scheduler.host_tick(0)
        ipc.threads.block(ipc.thread)["slot"] = SLOT_ABANDONED

    with pytest.raises(Overdue):
        drive(ipc.requests.make_until(5000, ipc.endpoint, Operation.VOLUME), ipc_request=sleep)
    ipc.threads.check_wait(ipc.thread)
    assert (ipc.thread.deadline, ipc.scheduler.state.sleepers) == (None, [])


def test_a_thread_that_is_killed_is_not_told_that_its_server_is_late(ipc: Ipc) -> None:
    def killed(_call: RoutineCall) -> None:
        ipc.now(5000)
        ipc.threads.kill(ipc.thread)
        ipc.threads.block(ipc.thread)["slot"] = SLOT_ABANDONED

    with refusal(ErrorCode.KILLED):
        drive(ipc.requests.make_until(5000, ipc.endpoint, Operation.VOLUME), ipc_request=killed)


def test_an_interrupt_before_the_deadline_is_an_interrupt(ipc: Ipc) -> None:
    def interrupted(_call: RoutineCall) -> None:
        ipc.threads.block(ipc.thread)["slot"] = SLOT_ABANDONED

    with pytest.raises(GivenUp) as refused_with:
        drive(ipc.requests.make_until(5000, ipc.endpoint, Operation.VOLUME), ipc_request=interrupted)
    assert (type(refused_with.value), refused_with.value.code) == (GivenUp, ErrorCode.INTERRUPTED)
