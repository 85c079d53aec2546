"""Killing at evenly spaced instructions of a workload: whichever process dies, nothing is lost and no thread hangs.

CALLGATE_DEATH_POINTS says at how many; the checks of a change look at more than the plain run.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from callgate.disk.media import ImageFile
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.system import System, SystemOptions
from callgate.kernel.watching.leaks import leaks
from ipc_rig import FAST_PATH

POINTS = int(os.environ.get("CALLGATE_DEATH_POINTS", "8"))
SomeOf = Callable[[Iterable[int], int], list[int]]
FUEL = 20_000_000


def attention(system: System) -> None:
    """Interrupt a CPU that may be halted, so that it sees changes from outside."""
    system.machine.pic.raise_line(IRQ)
    system.machine.pic.lower_line(IRQ)
    system.machine.pic.raise_line(IRQ)


@pytest.fixture
def image(fat_image: Callable[..., Path]) -> Path:
    return fat_image({"A.BIN": bytes(range(256)) * 900, "docs/B.TXT": b"b" * 3000})


def start(image: Path, commands: str) -> tuple[System, list[bytes]]:
    output: list[bytes] = []
    return System(
        [ImageFile(image)], SystemOptions(commands=commands, output=output.append, fast_path=FAST_PATH)
    ), output


def instants(image: Path, commands: str) -> Iterator[tuple[int, System, list[bytes]]]:
    """Run commands up to evenly spaced points of them; yield the instructions since the shell's start, and the rest."""
    system, output = start(image, commands)
    while "shell" not in {thread.name for thread in system.kernel.state.tasks.threads.values()}:
        system.run(fuel=500)
    while system.kernel.coroutines.alive:
        system.machine.step()
    kept = system.snapshot()
    begin = system.machine.clock.retired
    system.run(fuel=FUEL)
    length = system.machine.clock.retired - begin
    for point in range(1, length, max(1, length // POINTS)):
        system.restore(kept)
        output.clear()
        system.run(fuel=point)
        yield point, system, output
    system.close()


def test_a_server_killed_at_any_instant_leaves_nothing_held(image: Path) -> None:
    for point, system, output in instants(image, "cat A.BIN docs/B.TXT; ls docs; hello after"):
        endpoint = next(p for p in system.kernel.state.endpoints.by_number.values() if p.name == "d0")
        assert endpoint.process is not None
        if system.exit_code is None:
            system.kernel.servers.kill(endpoint.process, "killed by the test")
            attention(system)
            stop = system.run(fuel=FUEL)
            assert stop.reason == "exit", (point, stop, system.kernel.state.tasks.threads)
        assert b"".join(output).endswith(b"hello from ring 3, arguments: after\n"), point
        assert leaks(system.kernel) == [], point


def test_a_client_killed_at_any_instant_leaves_the_server_unharmed(image: Path) -> None:
    for point, system, _ in instants(image, "cat A.BIN docs/B.TXT; ls docs"):
        shell = system.thread("shell").process if system.exit_code is None else None
        if shell is not None and not shell.dying:
            system.kernel.processes.kill(shell, 137)
            attention(system)
            stop = system.run(fuel=FUEL)
            assert stop.reason == "exit", (point, stop, system.kernel.state.tasks.threads)
            assert system.exit_code == 137, point
        # The server may still be at work on what the client asked for: let it finish.
        attention(system)
        system.run(fuel=FUEL)
        assert leaks(system.kernel) == [], point


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("event", ["ipc.fetch", "ipc.reply"])
def test_a_server_killed_at_each_instruction_of_its_kernel_path_strands_no_client(
    image: Path, event: str, some_of: SomeOf
) -> None:
    commands = "ls /d0; hello after"
    for steps in some_of(range(0, 46, 3), 3):
        system, output = start(image, commands)
        while "shell" not in {thread.name for thread in system.kernel.state.tasks.threads.values()}:
            system.run(fuel=500)
        endpoint = next(p for p in system.kernel.state.endpoints.by_number.values() if p.name == "d0")
        assert endpoint.process is not None
        while system.kernel.scheduler.current.process is not endpoint.process:
            system.run(fuel=FUEL, until=event)
            system.machine.step()
        system.machine.step(steps)
        system.kernel.servers.kill(endpoint.process, "killed by the test")
        attention(system)
        stop = system.run(fuel=FUEL)
        assert stop.reason == "exit", (steps, stop, system.kernel.state.tasks.threads)
        assert b"".join(output).endswith(b"hello from ring 3, arguments: after\n"), steps
        assert leaks(system.kernel) == [], steps
        system.close()
