"""A server or a client ends between a look at the flags and what follows it: nothing waits for it, nothing is lost."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import silent_servers as servers
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation, ServerCall, SystemCall
from callgate.kernel.abi.thread import HostedGate
from callgate.kernel.machine.devices.serial import IRQ
from callgate.server.gate import GateCall
from callgate.server.hosted import operation
from callgate.server.message import Reply, Request
from hushed import endpoint, install

Arenas = Callable[..., Any]
SOON = 10_000  # instructions
PAUSE = 10_000_000  # nanoseconds
DISTURBED = 7


def attention(made: Any) -> None:
    """Interrupt a CPU that may be halted."""
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)


def end_server_first(made: Any) -> None:
    """End the server of d0: its last thread has its turn before the current thread goes on."""
    server = endpoint(made, "d0").process
    made.kernel.servers.kill(server, "killed by the test")
    made.kernel.scheduler.request_yield()
    attention(made)
    while server.threads:
        made.run(fuel=10)
    assert endpoint(made, "d0").swept


class Slow(servers.Silent):
    """Takes a while for LOCK_DIRECTORY."""

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        await GateCall(HostedGate.SYSTEM, SystemCall.SLEEP, ecx=PAUSE)
        return await super().lock_directory(request)


class AnswersOnce(servers.Silent):
    """Answers the first READ only."""

    answered: ClassVar[list[Operation]] = []

    async def serve(self, message: int) -> ServerCall:
        first = Operation.READ not in self.answered
        kind = await super().serve(message)
        return kind if first or kind is not ServerCall.REPLY_SECTORS else ServerCall.WAIT


def test_a_program_killed_after_the_last_look_on_its_way_out_of_the_kernel_ends(arena: Arenas) -> None:
    made = arena()
    made.run()
    victim = made.start("runaway", b"")
    attention(made)
    assert made.system.run(until="leave_tested").reason == "until"
    assert made.kernel.scheduler.current.process is victim
    attention(made)
    assert made.system.run(until="trap_return").reason == "until"
    made.kernel.processes.kill(victim, 9)
    made.run(fuel=SOON)
    assert not victim.threads


@pytest.mark.parametrize("at", ["ipc_post_and_wait.filled", "post_and_wait"], ids=["READ", "OPEN"])
def test_a_reader_whose_server_dies_between_its_request_and_its_wait_has_an_error(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    install(monkeypatch, servers.Silent)
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    reader = made.start("whole_reader", b"/d0/f\0")
    attention(made)
    assert made.system.run(until=at).reason == "until"
    end_server_first(made)
    assert made.run().reason == "halt"
    assert reader.exit_code == DISTURBED
    made.assert_unharmed()


def test_pages_for_a_client_that_has_been_killed_meanwhile_are_the_servers_again(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, Slow)
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    client = made.start("patron", b"\1/d0\0/d0/f\0")
    attention(made)
    while Operation.LOCK_DIRECTORY not in servers.Silent.answered:
        made.run(fuel=100)
    assert client.threads
    made.kernel.processes.kill(client, 9)
    attention(made)
    assert made.run().reason == "halt"
    assert Operation.UNLOCK_DIRECTORY in servers.Silent.answered
    server = endpoint(made, "d0").process
    assert {made.kernel.memory.low.holders[frame] for frame in server.pages.values()} == {1}
    made.assert_unharmed()


def test_a_reader_that_has_its_data_does_not_wait_for_an_answer_about_what_is_read_ahead(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, AnswersOnce, answered=[])
    monkeypatch.setattr(synthetic.Synthetic, "files", {})
    monkeypatch.setattr(AnswersOnce, "files", {"f": synthetic.Layout(4 << 20, [(None, 8192)])})
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    reader = made.start("sitter", b"/d0/f\0")
    attention(made)
    made.run(5_000_000)
    assert AnswersOnce.answered.count(Operation.READ) > 1
    assert reader.exit_code == 0
