"""A search backward that gdb ends by Ctrl-C, or by going away: the machine stands where it stood."""

import select
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.system import System

Boot = Callable[[str], System]
Serve = Callable[[System], Any]
Connect = Callable[[Any], Any]
HELLO = b"qSupported:multiprocess+;swbreak+;hwbreak+;error-message+;no-resumed+"
PATIENCE = 60  # seconds


@pytest.mark.parametrize("goes", [False, True])
def test_a_reverse_continue_that_gdb_interrupts_or_leaves_ends_where_it_began(
    boot_demo: Boot, serve: Serve, connect: Connect, goes: bool
) -> None:
    system = boot_demo("df")
    serving = serve(system)
    client = connect(serving)
    assert client.ask(HELLO)
    while not client.ask(b"vCont;c").startswith(b"W00"):
        pass
    before = system.machine.position, system.machine.cpu.registers()
    restored: list[int] = []
    history = serving.server.history.history

    def asked() -> None:
        """Let gdb speak in the middle: after the first stretch of the past has been gone to."""
        if not restored:
            client.close() if goes else client.socket.sendall(b"\x03")
            assert select.select([serving.server.connection.reading], [], [], PATIENCE)[0]
            restored.append(system.machine.clock.retired)

    history.keep_checkpoint()
    history.restored.append(asked)
    client.send(b"bc")
    if goes:
        another = connect(serving)
        assert another.ask(HELLO)
    else:
        assert client.receive().startswith(b"T02")
    assert restored
    assert (system.machine.position, system.machine.cpu.registers()) == before
