"""Client, server or both killed at any instruction of a system call: of a read, an open, a listing, EXIT and others.

A program stands before its call; from a snapshot it runs for a number of instructions, a process is killed, and 10,000
instructions later no thread of it is left. At the end nothing is held, and the other volume works. CALLGATE_KILL_POINTS
says at how many instants of each call; a number greater than its length means all of them.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.records import Process
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.programs.images import program_file
from callgate.kernel.watching.leaks import leaks

Sessions = Callable[..., Any]
POINTS = int(os.environ.get("CALLGATE_KILL_POINTS", "4"))
BOUND = 10_000  # instructions from the kill to the end of the last thread
KILLED = 9
CALLS = {
    "an open": "o",
    "an open with the first data": "z",
    "an open that closes another file": "y",
    "an uncached read": "u",
    "a cached read": "c",
    "a listing": "l",
    "START_THREAD": "t",
    "EXIT": "e",
    "CLOSE": "x",
    "UNLOCK_DIRECTORY": "k",
    "WRITE out of a page that has to be read": "w",
    "WRITE by DMA out of a page that has to be read": "g",
    "ALLOCATE": "a",
    "FREE": "f",
    "READ_CHARACTER": "r",
    "START_PROCESS": "p",
    "WAIT_PROCESS": "q",
    "SLEEP": "s",
    "SET_DIRECTORY": "d",
    "VOLUME_INFORMATION": "v",
}
#: A call that waits for something other than the server, and keeps waiting after its death.
ENDLESS = "READ_CHARACTER"
#: Calls that ask neither a server nor the disk, or do not end.
WITHOUT_THE_DISK = {"START_THREAD", "EXIT", "ALLOCATE", "FREE", "READ_CHARACTER", "SLEEP"}
#: The errors of a client of a server that has died.
TOLD = {100 + ErrorCode.SERVER_DIED, 100 + ErrorCode.NOT_FOUND}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("instructions")
    (folder / "A.BIN").write_bytes(bytes(range(256)) * 100)
    out = folder.with_suffix(".img")
    (folder / "HELLO").write_bytes(program_file("hello"))
    create_image(out, folder, fs="fat16", size=4 << 20)
    return out


class InstantsOfCall:
    """A program that stands before its call, restored for each try."""

    def __init__(self, made: Any) -> None:
        self.made = made
        made.reach("doer", "before")
        self.number = made.processes[0].number
        self.kept = made.system.snapshot()
        begin = made.system.machine.clock.retired
        made.run(fuel=BOUND * 10, until=made.label("doer", "after"))
        self.length = made.system.machine.clock.retired - begin
        self.frames = 0

    def after(self, steps: int) -> tuple[Process, Process]:
        """Restore, run a number of instructions; return the client and the server of its volume."""
        made = self.made
        made.system.restore(self.kept)
        made.system.machine.step(steps)
        client = made.kernel.state.tasks.processes[self.number]
        server = next(p for p in made.kernel.state.endpoints.by_number.values() if p.name == "d0").process
        assert server is not None
        return client, server

    def points(self) -> range:
        """Return the instants to try: the last one is after the call."""
        return range(0, self.length + 2, max(1, self.length // POINTS))


@pytest.mark.thorough(one_in=8)
@pytest.mark.parametrize("victims", ["client", "server", "both"])
@pytest.mark.parametrize("call", CALLS)
def test_a_process_killed_at_any_instruction_of_a_call_ends_soon_and_leaves_nothing(
    session: Sessions, image: Path, call: str, victims: str
) -> None:
    made = session(image, programs=[("doer", CALLS[call])], latency=Latency(command=30_000, sector=20))
    instants = InstantsOfCall(made)
    for steps in instants.points():
        client, server = instants.after(steps)
        ended = client.exit_code  # EXIT may be over
        dying = kill(made, client, server, victims)
        made.system.machine.pic.lower_line(IRQ)
        made.system.machine.pic.raise_line(IRQ)
        made.run(fuel=BOUND)
        assert [process for process in dying if process.threads] == [], steps
        assert made.run().reason == "halt", steps
        lives = {None} if call == ENDLESS else {0} | TOLD
        expected = {ended} if ended is not None else {KILLED} if client in dying else lives
        assert client.exit_code in expected, (steps, client.exit_code)
        assert leaks(made.kernel) == [], steps
        assert made.kernel.check() == [], steps


@pytest.mark.thorough(one_in=19)
@pytest.mark.parametrize("gap", [None, 0, 300, 20_000])  # instructions until the disk is back; None: it does not come
@pytest.mark.parametrize("call", [call for call in CALLS if call not in WITHOUT_THE_DISK])
def test_a_disk_that_is_replugged_at_any_instruction_of_a_call_leaves_nothing_behind(
    session: Sessions, image: Path, call: str, gap: int | None
) -> None:
    """Late or repeated answers of its server and its commands are not taken for the new disk's."""
    made = session(image, programs=[("doer", CALLS[call])], latency=Latency(command=30_000, sector=20))
    instants = InstantsOfCall(made)
    medium = made.system.media[0]
    for steps in instants.points():
        client, server = instants.after(steps)
        made.system.unplug(0)
        if gap is not None:
            made.run(fuel=max(gap, 1))
            made.system.plug(0, medium)
        assert made.run().reason == "halt", steps
        assert not client.threads, steps
        assert not server.threads, steps
        assert leaks(made.kernel) == [], steps
        assert made.kernel.check() == [], steps


def kill(made: Any, client: Process, server: Process, victims: str) -> list[Process]:
    """Kill the processes that are to die; return them."""
    if victims != "server":
        made.kernel.processes.kill(client, KILLED, "killed by the test")
    if victims != "client":
        made.kernel.servers.kill(server, "killed by the test")
    return {"client": [client], "server": [server], "both": [client, server]}[victims]
