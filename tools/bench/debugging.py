"""The cost of a debugger: a machine under one at which nothing stops, and steps.

The figures to hold: a machine with the stub attached is at least 0.9 times as fast as without; 2,000 single steps a
second.  Speed is that of the run: what a connection takes once, before the first instruction, is no part of it.
`gdb-steps` is there only if gdb is installed; it steps over a connection and shows nothing.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import open_image
from callgate.kernel.programs.kernel_labels import TAKE_SLOT
from callgate.kernel.system import System, SystemOptions
from callgate.tools.bench.measuring import BenchmarkError, by_turns, run_time, timing
from callgate.tools.debugger.debuggee import Debuggee
from callgate.tools.debugger.gdb.protocol.packets import frame
from callgate.tools.debugger.gdb.server import LOOPBACK, Address, GdbServer

if TYPE_CHECKING:
    from callgate.kernel.machine import Stop

WORK: Final = "; ".join(["cat PATTERN.BIN; crc32 PATTERN.BIN; tree; df"] * 4)
PAIRS: Final = 7  # of runs, one of each kind, in a round
STEPS: Final = 1000
RATE: Final = re.compile(r"RATE (\d+\.\d+)")
SCRIPT: Final = f"""\
set pagination off
set confirm off
target remote {LOOPBACK}:{{port}}
break {TAKE_SLOT}
continue
delete
python
import time
begin = time.perf_counter()
gdb.execute("stepi {STEPS}", to_string=True)
print("RATE", time.perf_counter() - begin)
end
disconnect
"""


def system(commands: str | None, typed: Callable[[int], bytes] | None = None) -> System:
    """Return a system with the demo image that has not run; it has commands, or what is typed while it runs."""
    return System([open_image(demo_image(cache_directory()))], SystemOptions(commands=commands, source=typed))


def run_alone() -> float:
    """Return the seconds of CPU time that the work takes without a debugger."""
    with system(WORK) as booted:
        return run_time(booted.machine, booted.run)


def run_attached() -> float:
    """Return the seconds of CPU time that it takes with a client connected that has said `continue`."""
    with system(WORK) as booted:
        server = GdbServer(Address(LOOPBACK), lambda _line: None)
        server.open()
        stops: list[Stop] = []
        with socket.create_connection((LOOPBACK, server.port)) as link:
            # The answer comes when the work has ended; after it, the end of the connection ends the server.
            link.sendall(frame(b"vCont;c"))
            ended = threading.Thread(target=until_answered, args=(link, booted))
            ended.start()
            elapsed = run_time(booted.machine, lambda: stops.append(server.run(booted)))
            ended.join()
        if stops[0].reason != "exit":
            raise BenchmarkError(f"the work ended by {stops[0].reason}")
        return elapsed


def until_answered(link: socket.socket, booted: System) -> None:
    """Wait for the answer to `continue`, then have the server give up."""
    link.settimeout(60)
    data = b""
    while b"$" not in data:
        data = link.recv(1 << 16)
    booted.machine.control.interrupt()


def step_by_gdb(program: str) -> float:
    """Return the seconds that gdb takes for STEPS steps."""

    def run(port: int) -> float:
        with tempfile.NamedTemporaryFile("w", suffix=".gdb") as script:
            script.write(SCRIPT.format(port=port))
            script.flush()
            command = [program, "-nx", "-batch", "-x", script.name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = RATE.search(done.stdout)
        if found is None:
            raise BenchmarkError(f"gdb did not step:\n{done.stdout}{done.stderr}")
        return float(found[1])

    with system("dir") as booted:
        server = GdbServer(Address(LOOPBACK), lambda _line: None)
        server.open()
        thread = threading.Thread(target=lambda: server.run(booted))
        thread.start()
        try:
            return run(server.port)
        finally:
            booted.machine.control.interrupt()
            thread.join()


def debuggee_steps() -> float:
    """Return the seconds for STEPS steps without a connection: what every front end pays."""
    with system("dir") as booted:
        debuggee = Debuggee(booted)
        debuggee.breakpoints.add(booted.kernel.image.address(TAKE_SLOT))
        debuggee.run()
        begin = time.perf_counter()
        for _ in range(STEPS):
            debuggee.step()
        return time.perf_counter() - begin


def bench_debug(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench debug`."""
    runs = by_turns(rounds * PAIRS, run_alone, run_attached)
    elements: list[dict[str, Any]] = [
        {"name": "run-alone", "n": 1, "wall_us": timing(runs.plain, 1)},
        {"name": "run-attached", "n": 1, "wall_us": timing(runs.other, 1), "ratio_of_speed_to_alone": runs.ratio},
        stepping("debuggee-steps", [debuggee_steps() for _ in range(rounds)]),
    ]
    gdb = shutil.which("gdb")
    if gdb is not None:
        elements.append(stepping("gdb-steps", [step_by_gdb(gdb) for _ in range(rounds)]))
    return elements


def stepping(name: str, samples: list[float]) -> dict[str, Any]:
    """Return the element of one way to step: microseconds a step, and steps a second at best."""
    return {"name": name, "n": STEPS, "wall_us": timing(samples, STEPS), "per_second": round(STEPS / min(samples))}
