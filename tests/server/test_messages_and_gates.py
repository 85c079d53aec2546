"""The runtime: requests out of message pages, replies into them, gate calls, dispatch, duplicates."""

import pickle
from struct import Struct

import pytest
from callgate.kernel.abi.calls import Operation, ServerCall, SystemCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.memory import USER_MESSAGES
from callgate.kernel.abi.message import Message, MessageFlags
from callgate.kernel.abi.thread import HostedBlock, HostedGate
from callgate.server import (
    Data,
    FileSystemError,
    GateCall,
    GateResult,
    HostedServer,
    Object,
    Registers,
    RegisterValues,
    Reply,
    ReplyError,
    Request,
    Sectors,
    allocate,
    complete,
    free,
    lock_blocks,
    operation,
    unlock_blocks,
)
from callgate.server.hosted import REPORT_LIMIT
from callgate.server.testing import FakeMemory, MemoryFaultError, Rehearsal

BLOCK = USER_MESSAGES + (1 << 20)
ENTRY = Struct("<8I")  # BatchEntry
REGISTERS = RegisterValues(1, 2, 3, 4, 5, 0xFFFF_FFFF)


class EchoServer(HostedServer):
    name = "echo"

    @operation(Operation.OPEN)
    async def echo(self, request: Request) -> Reply:
        return Data(request.data[::-1], request.registers)

    @operation(Operation.READ)
    async def touch(self, request: Request) -> Reply:
        self.memory.read(request.registers.eax, 1)
        return Registers(request.registers)

    @operation(Operation.CLOSE)
    async def refuse(self, request: Request) -> Reply:
        raise FileSystemError(ErrorCode(request.registers.eax), f"refused {request.registers.eax}")

    @operation(Operation.FREE_SPACE)
    async def count(self, request: Request) -> Reply:
        address = await allocate(5000)
        self.memory.write(address, b"x" * 8192)
        await free(address)
        return Registers(request.registers._replace(eax=address))


@pytest.fixture
def echo() -> Rehearsal:
    return Rehearsal(EchoServer, bytes(1 << 20))


class TestBatches:
    @staticmethod
    def batch(rehearsal: Rehearsal, *entries: tuple[int, ...]) -> list[tuple[int, ...]]:
        answer = rehearsal.request(Operation.BATCH, b"".join(ENTRY.pack(*entry) for entry in entries))
        assert (answer.call, answer.error) == (ServerCall.REPLY_REGISTERS, ErrorCode.OK)
        return list(ENTRY.iter_unpack(answer.data))

    def test_each_request_of_a_batch_has_its_own_reply_in_order(self, echo: Rehearsal) -> None:
        entries = [(Operation.NULL, *REGISTERS, 9), (Operation.CLOSE, 11, 2, 3, 4, 5, 6, 0), (77, *REGISTERS, 0)]
        replies = self.batch(echo, *entries)
        assert replies == [
            (Operation.NULL, *REGISTERS, 0),
            (Operation.CLOSE, 11, 2, 3, 4, 5, 6, 1),
            (77, *REGISTERS._replace(eax=ErrorCode.BAD_CALL), 1),
        ]

    def test_a_handler_of_a_batch_may_wait_and_sees_no_data(self, echo: Rehearsal) -> None:
        counted, echoed = self.batch(echo, (Operation.FREE_SPACE, *REGISTERS, 0), (Operation.OPEN, *REGISTERS, 0))
        assert len(echo.calls) == 2
        assert counted[1] == echo.calls[1].ebx
        assert echoed == (Operation.OPEN, *REGISTERS, 0)

    def test_damage_that_a_batch_meets_is_reported(self, echo: Rehearsal) -> None:
        self.batch(echo, (Operation.CLOSE, ErrorCode.CORRUPT, 0, 0, 0, 0, 0, 0))
        assert echo.server.take_reports() == ["d0p1: refused 12"]

    @pytest.mark.parametrize("size", [0, 31, 33])
    def test_data_that_are_no_entries_are_a_bad_argument(self, echo: Rehearsal, size: int) -> None:
        answer = echo.request(Operation.BATCH, bytes(size), **REGISTERS._asdict())
        assert (answer.error, answer.registers) == (ErrorCode.BAD_ARGUMENT, REGISTERS._replace(eax=2))

    def test_a_batch_within_a_batch_is_not_served(self, echo: Rehearsal) -> None:
        ((_, code, *_, flags),) = self.batch(echo, (Operation.BATCH, *REGISTERS, 0))
        assert (code, flags) == (ErrorCode.BAD_CALL, 1)

    def test_a_register_out_of_range_in_a_batch_is_a_mistake_of_the_server(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def too_large(_server: EchoServer, request: Request) -> Reply:
            return Registers(request.registers._replace(edx=1 << 32))

        monkeypatch.setattr(EchoServer, "null", too_large)
        with pytest.raises(ReplyError, match="edx = 0x100000000"):
            self.batch(Rehearsal(EchoServer, bytes(4096)), (Operation.NULL, *REGISTERS, 0))


class TestDispatch:
    def test_null_returns_every_register_as_it_was_sent(self, echo: Rehearsal) -> None:
        answer = echo.request(Operation.NULL, **REGISTERS._asdict())
        assert answer == (ServerCall.REPLY_REGISTERS, ErrorCode.OK, REGISTERS, b"", b"", ())
        assert echo.calls == []

    def test_the_data_of_requests_and_replies_are_carried(self, echo: Rehearsal) -> None:
        answer = echo.request(Operation.OPEN, b"abc", **REGISTERS._asdict())
        assert (answer.call, answer.data, answer.registers) == (ServerCall.REPLY_DATA, b"cba", REGISTERS)

    def test_request_data_without_their_flag_are_not_seen(self, echo: Rehearsal) -> None:
        address = echo.post(Operation.OPEN, b"abc")
        echo.memory.write(echo.server.blocks[address] + offset_of(HostedBlock, "flags"), bytes(4))
        assert echo.take(address, echo.drive(echo.server.serve(address))).data == b""

    def test_a_data_count_beyond_the_page_is_cut(self) -> None:
        memory = FakeMemory()
        memory.regions[USER_MESSAGES] = bytearray(4096)
        block = HostedBlock(operation=5, flags=MessageFlags.DATA, count=0xFFFF_FFFF)
        memory.regions[BLOCK] = bytearray(bytes(block))
        assert len(Request.load(memory, USER_MESSAGES, BLOCK).data) == 4048

    def test_request_registers_come_from_the_hosted_block_and_not_from_the_message_page(self) -> None:
        memory = FakeMemory()
        memory.regions[BLOCK] = bytearray(bytes(HostedBlock(operation=7, count=9, **REGISTERS._asdict())))
        assert Request.load(memory, USER_MESSAGES, BLOCK) == Request(7, REGISTERS, b"")

    def test_an_unknown_operation_is_a_bad_call(self, echo: Rehearsal) -> None:
        for number in (Operation.VOLUME, 8, 0xFFFF_FFFF):
            answer = echo.request(number, **REGISTERS._asdict())
            assert (answer.error, answer.registers) == (ErrorCode.BAD_CALL, REGISTERS._replace(eax=1))

    def test_error_replies_carry_their_code_and_leave_other_registers(self, echo: Rehearsal) -> None:
        values = REGISTERS._replace(eax=ErrorCode.NO_RESOURCES)
        answer = echo.request(Operation.CLOSE, **values._asdict())
        assert (answer.call, answer.error) == (ServerCall.REPLY_REGISTERS, ErrorCode.NO_RESOURCES)
        assert answer.registers == values

    def test_damage_is_reported_and_mere_mistakes_are_not(self, echo: Rehearsal) -> None:
        echo.request(Operation.CLOSE, eax=ErrorCode.NOT_FOUND)
        echo.request(Operation.CLOSE, eax=ErrorCode.CORRUPT)
        assert echo.server.take_reports() == ["d0p1: refused 12"]
        assert echo.server.take_reports() == []

    def test_the_number_of_damage_reports_is_bounded(self, echo: Rehearsal) -> None:
        for number in range(100):
            echo.server.report(f"damage {number}")
        reports = echo.server.take_reports()
        assert (len(reports), reports[-1]) == (65, "d0p1: 36 more messages were dropped")

    def test_damage_that_has_just_been_reported_is_not_reported_again(self, echo: Rehearsal) -> None:
        for number in (1, 2, 1, 2):
            echo.server.report(f"damage {number}")
        assert echo.server.take_reports() == ["d0p1: damage 1", "d0p1: damage 2"]
        echo.server.report("damage 1")
        assert echo.server.take_reports() == []
        for number in range(REPORT_LIMIT):
            echo.server.report(f"other damage {number}")
        echo.server.take_reports()
        echo.server.report("damage 1")
        assert echo.server.take_reports() == ["d0p1: damage 1"]

    def test_a_bad_address_ends_the_server_instead_of_the_request(self, echo: Rehearsal) -> None:
        with pytest.raises(MemoryFaultError):
            echo.request(Operation.READ, eax=0xC000_0000)

    def test_operation_tables_are_inherited_and_a_number_declared_twice_is_refused(self) -> None:
        assert EchoServer.operations[Operation.NULL] == "null"
        assert HostedServer.operations == {Operation.NULL: "null"}
        with pytest.raises(TypeError, match="operation 5 is both one and two"):

            class Twice(HostedServer):
                @operation(5)
                async def one(self, request: Request) -> Reply:
                    return Registers(request.registers)

                @operation(5)
                async def two(self, request: Request) -> Reply:
                    return Registers(request.registers)

    def test_a_hosted_server_without_a_message_starts_and_then_waits(self, echo: Rehearsal) -> None:
        assert echo.drive(echo.server.serve(0)) is ServerCall.WAIT


class TestReplies:
    @pytest.mark.parametrize(
        "reply",
        [
            Data(bytes(4049), REGISTERS),
            Object(0x1000_0001, 4096, REGISTERS),
            Object(0x1000_0000, 0, REGISTERS),
            Sectors([], REGISTERS),
            Sectors([0] * 507, REGISTERS),
            Registers(RegisterValues(eax=1 << 32)),
            Registers(RegisterValues(edi=-1)),
        ],
    )
    def test_replies_that_no_message_can_carry_are_the_servers_mistake(self, reply: Reply) -> None:
        memory = FakeMemory()
        memory.regions[USER_MESSAGES] = bytearray(4096)
        memory.regions[BLOCK] = bytearray(64)
        with pytest.raises(ReplyError):
            reply.store(memory, USER_MESSAGES, BLOCK)
        assert memory.regions[USER_MESSAGES] == bytes(4096)
        assert memory.regions[BLOCK] == bytes(64)

    def test_replies_leave_their_registers_to_the_stub_and_do_not_change_operation_flags_or_handle(self) -> None:
        memory = FakeMemory()
        memory.regions[USER_MESSAGES] = bytearray(
            bytes(Message(operation=7, flags=3, reply=4, handle=99, count=1, error=2, edi=5))
        )
        memory.regions[BLOCK] = bytearray(bytes(HostedBlock(message=USER_MESSAGES, operation=7, eflags=1)))
        assert Sectors([8, 7 << 60 | 16], REGISTERS).store(memory, USER_MESSAGES, BLOCK) is ServerCall.REPLY_SECTORS
        page = Message.from_buffer_copy(memory.read(USER_MESSAGES, 4096))
        assert (page.operation, page.flags, page.reply, page.handle) == (7, 3, 4, 99)
        assert (page.count, page.error, page.edi) == (2, 0, 5)
        block = HostedBlock.from_buffer_copy(memory.read(BLOCK, 64))
        assert (block.message, block.operation, block.eflags) == (USER_MESSAGES, 7, 0)
        assert RegisterValues(*(getattr(block, name) for name in RegisterValues._fields)) == REGISTERS
        assert bytes(page.data[:16]) == (8).to_bytes(8, "little") + (7 << 60 | 16).to_bytes(8, "little")


class TestGateCalls:
    def test_gate_calls_carry_their_registers_and_return_the_results(self) -> None:
        coroutine = lock_blocks(0x1_2345_6789, 2048)
        assert coroutine.send(None) == GateCall(
            HostedGate.SERVER, ServerCall.LOCK_BLOCKS, ecx=2048, edx=1, esi=0x2345_6789
        )
        with pytest.raises(StopIteration) as stop:
            coroutine.send(GateResult(0xA020_0000))
        assert stop.value.value == 0xA020_0000

    @pytest.mark.parametrize(
        ("coroutine", "call"),
        [
            (allocate(5000), GateCall(HostedGate.SYSTEM, SystemCall.ALLOCATE, ecx=5000)),
            (free(0x1000_0000), GateCall(HostedGate.SYSTEM, SystemCall.FREE, ebx=0x1000_0000)),
            (
                unlock_blocks(0xA020_0000),
                GateCall(HostedGate.SERVER, ServerCall.UNLOCK_BLOCKS, ebx=0xA020_0000),
            ),
        ],
        ids=["allocate", "free", "unlock_blocks"],
    )
    def test_gate_calls_that_fail_raise_the_kernels_code(self, coroutine: object, call: GateCall) -> None:
        assert coroutine.send(None) == call  # type: ignore[attr-defined]
        with pytest.raises(FileSystemError) as caught:
            coroutine.send(GateResult(ErrorCode.UNPLUGGED, eflags=0x203))  # type: ignore[attr-defined]
        assert caught.value.code is ErrorCode.UNPLUGGED

    def test_gate_calls_that_fail_with_an_unknown_code_are_io_errors(self) -> None:
        coroutine = allocate(1)
        coroutine.send(None)
        with pytest.raises(FileSystemError, match="unknown error 0x3e7") as caught:
            coroutine.send(GateResult(999, eflags=1))
        assert caught.value.code is ErrorCode.IO_ERROR

    @pytest.mark.parametrize("count", [0, -1, 2049])
    def test_gate_calls_that_lock_too_many_blocks_are_not_made(self, count: int) -> None:
        with pytest.raises(FileSystemError) as caught:
            lock_blocks(0, count).send(None)
        assert caught.value.code is ErrorCode.BAD_ARGUMENT

    def test_memory_of_a_gate_call_cannot_be_used_after_it_is_freed(self, echo: Rehearsal) -> None:
        address = echo.request(Operation.FREE_SPACE).registers.eax
        assert echo.allocated() == 0
        with pytest.raises(MemoryFaultError):
            echo.memory.read(address, 1)

    def test_gate_calls_in_a_coroutine_that_is_run_to_completion_are_refused(self) -> None:
        with pytest.raises(RuntimeError, match="awaits a gate call"):
            complete(allocate(1))


def test_a_duplicate_shares_no_state_and_uses_the_other_memory(echo: Rehearsal) -> None:
    other = FakeMemory()
    echo.server.report("before")
    copy = echo.server.duplicate(other)
    copy.report("after")
    assert copy.memory is other
    assert echo.server.take_reports() == ["d0p1: before"]
    assert copy.take_reports() == ["d0p1: before", "d0p1: after"]


def test_requests_and_replies_are_plain_data() -> None:
    for value in (GateCall(HostedGate.SYSTEM, 4), Request(5, REGISTERS, b"x"), Sectors([1], REGISTERS)):
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own bytes
