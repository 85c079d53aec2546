"""The costs of requests in gate calls: exact, because runs are deterministic."""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation, ServerCall, SystemCall
from callgate.server import FileSystemError, HostedServer, Registers, Reply, Request, operation, unlock_blocks
from callgate.server.fat.server import FatServer
from callgate.server.testing import Rehearsal


def test_the_fat_server_is_found_through_its_entry_point() -> None:
    (found,) = entry_points(group="callgate.servers", name="fat")
    assert found.load().server_class() is FatServer


class TestGateCalls:
    @pytest.fixture
    def served(self, fat_image: Callable[..., Any], client: Any) -> Any:
        image = fat_image(20_000, "-F", "16", "-s", "4")
        image.mkdir("DIR")
        image.put("DIR/FILE.BIN", bytes(1_000_000))
        return client(image.view())

    def cost(self, served: Any, operation: int, path: str | None = None, **registers: int) -> list[int]:
        before = len(served.rehearsal.calls)
        served.answer = served.request(operation, path, **registers)
        assert not served.answer.error
        return [call.eax for call in served.rehearsal.calls[before:]]

    def test_mounting_takes_the_gate_calls_of_four_reads(self, served: Any) -> None:
        """Boot sector, the FAT's entries for counting, its first window, the root directory."""
        assert [call.eax for call in served.rehearsal.calls] == [
            ServerCall.LOCK_BLOCKS,
            ServerCall.UNLOCK_BLOCKS,
        ] * 4

    def test_an_open_takes_gate_calls_only_for_directories_not_yet_read(self, served: Any) -> None:
        assert self.cost(served, Operation.OPEN, "DIR/FILE.BIN") == [
            ServerCall.LOCK_BLOCKS,
            ServerCall.UNLOCK_BLOCKS,
        ]
        assert self.cost(served, Operation.OPEN, "DIR/FILE.BIN") == []

    def test_reading_a_file_in_one_piece_takes_no_gate_call(self, served: Any) -> None:
        number = served.request(Operation.OPEN, "DIR/FILE.BIN").registers.eax
        for position in range(0, 1_000_000, 65536):
            assert self.cost(served, Operation.READ, ebx=number, eax=position, ecx=65536) == []

    def test_a_directory_lock_takes_one_allocation_the_first_time_only(self, served: Any) -> None:
        assert self.cost(served, Operation.LOCK_DIRECTORY, "/") == [SystemCall.ALLOCATE]
        assert self.cost(served, Operation.UNLOCK_DIRECTORY, edx=served.answer.registers.edx) == []
        assert self.cost(served, Operation.LOCK_DIRECTORY, "/") == []

    def test_every_other_request_takes_no_gate_call(self, served: Any) -> None:
        for number in (Operation.NULL, Operation.FREE_SPACE, Operation.VOLUME):
            assert self.cost(served, number) == []


class TestRehearsal:
    """The rehearsal must be as strict as the kernel, so that tests on it are meaningful."""

    @pytest.mark.thorough(only=True)
    def test_the_rehearsal_ends_a_handler_that_never_stops_calling(self) -> None:
        class Endless(HostedServer):
            @operation(Operation.OPEN)
            async def open(self, request: Request) -> Reply:
                while True:
                    try:
                        await unlock_blocks(0)
                    except FileSystemError:
                        continue
                return Registers(request.registers)

        with pytest.raises(AssertionError, match="gate calls for one request"):
            Rehearsal(Endless, bytes(512)).request(Operation.OPEN)
