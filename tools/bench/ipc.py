"""`callgate bench ipc`: requests, gates, host calls, boots, snapshots."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from callgate.kernel.kernel import Kernel
from callgate.kernel.machine import Machine
from callgate.kernel.machine.observation.ledger import Counts
from callgate.kernel.programs.executable import parse_elf
from callgate.kernel.programs.images import program_image
from callgate.kernel.system import System, SystemOptions
from callgate.tools.bench.measuring import BenchmarkError, element, timing

BATCH = 4000  # requests of a round: what a call of `run` costs is not what they cost
HOST_CALLS = 2000
CLIENTS = 32


class Bench:
    """A booted system with a null server and nothing else to do."""

    def __init__(self, clients: int = 0, program: str = "bench_client", *, fast_path: bool = True) -> None:
        """Boot with `clients` processes that make null requests for ever, each as the program does it."""
        self.clients = clients
        self.program = program
        self.system = System([], SystemOptions(shell=False, prepare=self._prepare, fast_path=fast_path))
        self.kernel = self.system.kernel

    def _prepare(self, kernel: Kernel) -> None:
        self.endpoint = kernel.servers.start_native("null_server", "null", hidden=True)
        program = parse_elf(program_image(self.program).elf(debug=False))
        arguments = f"{self.endpoint.number:02}".encode()
        self.processes = [kernel.programs.start(program, "client", arguments, 0) for _ in range(self.clients)]

    def check_clients(self) -> None:
        """Raise BenchmarkError if a client has ended: it has seen a wrong answer, or one of its calls has failed."""
        for process in self.processes:
            if process.exit_code is not None:
                raise BenchmarkError(f"a client has ended with {process.exit_code}")

    def close(self) -> None:
        """Close the machine."""
        self.system.close()


def null_request(program: str = "bench_client", *, fast_path: bool = True) -> dict[str, Any]:
    """Return the ledger of one whole null request, with or without handoffs that do not ask policy.

    With the program "bench_batch" it is that of a batch of four.

    From the client's far CALL to the return from it, and between them the server's far return, its handler and its
    next far CALL: the first instruction counted is the client's CALL, the last one its RETF.
    """
    bench = Bench(1, program, fast_path=fast_path)
    machine = bench.system.machine
    image = program_image(program)
    # The second request: the first one gives the slot its page.
    bench.system.run(until=image.address("after"))
    bench.system.run(until=image.address("before"))
    before = machine.ledger.counts()
    bench.system.run(until=image.address("after"))
    counts = passage(machine, before)
    bench.close()
    return counts


def passage(machine: Machine, before: Counts) -> dict[str, Any]:
    """Return the costs since `before` of a passage of a gate whose RETF was the last instruction.

    The ledger sees a change of rings at the first instruction in the new one: one step further.
    """
    spent = machine.ledger.counts() - before
    machine.step()
    spent.ring_changes = machine.ledger.counts().ring_changes - before.ring_changes
    return spent.as_dict()


def ipc_null(rounds: int, *, fast_path: bool = True) -> dict[str, Any]:
    """Measure null requests of one client, one server thread waiting."""
    counts = null_request(fast_path=fast_path)
    bench = Bench(clients=1, fast_path=fast_path)
    machine = bench.system.machine
    after = program_image("bench_client").address("after")
    bench.system.run(until=after)
    machine.step()
    period = cycle(machine, after)
    machine.run(fuel=period * BATCH)  # until the machine goes by blocks, as one does that runs for long
    samples = []
    for _ in range(rounds):
        start = time.perf_counter()
        machine.run(fuel=period * BATCH)
        samples.append(time.perf_counter() - start)
    bench.close()
    return element("ipc-null" if fast_path else "ipc-null-asking", 1, counts, timing(samples, BATCH))


def cycle(machine: Machine, address: int) -> int:
    """Return the instructions from one passing of an address to the next."""
    start = machine.run(until=address).retired
    machine.step()
    return machine.run(until=address).retired - start


def ipc_batch(rounds: int) -> dict[str, Any]:
    """Measure 32 clients whose requests queue up at one server thread."""
    return under_load("ipc-batch32", Bench(clients=CLIENTS), rounds)


def ipc_batches(rounds: int) -> dict[str, Any]:
    """Measure 32 clients that make four requests at a time."""
    return under_load("ipc-batch32x4", Bench(clients=CLIENTS, program="bench_batch"), rounds)


def ipc_threads(rounds: int) -> dict[str, Any]:
    """Measure one client with 32 threads."""
    return under_load("ipc-threads32", Bench(clients=1, program="bench_threads"), rounds)


def under_load(name: str, bench: Bench, rounds: int) -> dict[str, Any]:
    """Measure requests that queue up at one server thread, and close the system."""
    machine = bench.system.machine
    machine.run(fuel=1_000_000)
    before = machine.ledger.counts()
    machine.run(fuel=2_000_000)
    spent = machine.ledger.counts() - before
    samples = []
    for _ in range(rounds):
        begun, first = time.perf_counter(), machine.ledger.counts()
        machine.run(fuel=200_000)
        samples.append((time.perf_counter() - begun) / max(1, requests_of(machine.ledger.counts() - first)))
    bench.check_clients()
    bench.close()
    return element(name, requests_of(spent), spent.as_dict(), timing(samples, 1))


def requests_of(counts: Counts) -> int:
    """Return the number of requests in clients' counts, one for each entry of a batch, not for the batch."""
    return counts.batched_requests or counts.requests


def host_call(rounds: int) -> dict[str, Any]:
    """Measure an empty host call from ring 0: OUT into Python and back."""
    bench = Bench()
    machine = bench.system.machine
    machine.run()
    loop = machine_loop(bench, "out 0xdf, eax")
    machine.host_calls.register(0xDF, lambda _value: None, "empty")
    counts, samples = time_loop(bench, loop, rounds)
    bench.kernel.memory.low.release(loop.frame)
    bench.close()
    return element("host-call", HOST_CALLS, counts, timing(samples, HOST_CALLS))


class Loop(NamedTuple):
    """Code of a benchmark's own in the kernel's gigabyte: linear addresses of its ends, and the frame it lies in."""

    start: int
    end: int
    frame: int


def machine_loop(bench: Bench, instruction: str) -> Loop:
    """Place a loop of HOST_CALLS times an instruction in the kernel's gigabyte."""
    from callgate.asm.assembler import assemble_text
    from callgate.kernel.abi.memory import KERNEL_BASE
    from callgate.kernel.memory.page_tables import KERNEL_CODE

    frame = bench.kernel.memory.low.allocate()
    linear = 0xF100_0000
    bench.kernel.memory.tables.map_kernel(bench.kernel.state.space, linear, frame, KERNEL_CODE)
    source = f"start:\n cli\n mov ecx, {HOST_CALLS}\nagain:\n {instruction}\n dec ecx\n jnz again\nstop:\n jmp stop\n"
    program = assemble_text(source, origin=linear)
    bench.system.machine.ram.write(frame, program.sections[0].data)
    assert linear > KERNEL_BASE
    return Loop(linear, program.address("stop"), frame)


def time_loop(bench: Bench, loop: Loop, rounds: int) -> tuple[dict[str, Any], list[float]]:
    """Run the loop `rounds` times from the idle thread's context; return one round's counts and all times."""
    machine = bench.system.machine
    samples = []
    counts: dict[str, Any] = {}
    for _ in range(rounds):
        machine.cpu.eip = loop.start
        before = machine.ledger.counts()
        start = time.perf_counter()
        machine.run(until=loop.end)
        samples.append(time.perf_counter() - start)
        counts = (machine.ledger.counts() - before).as_dict()
    return counts, samples


def call_gate(rounds: int) -> dict[str, Any]:
    """Measure ring 3 to ring 0 and back: a request that the gate refuses, from its far CALL to the return from it."""

    def prepare(kernel: Kernel) -> None:
        kernel.programs.start(parse_elf(program_image("bench_gate").elf(debug=False)), "gate", b"", 0)

    system = System([], SystemOptions(shell=False, prepare=prepare))
    machine = system.machine
    program = program_image("bench_gate")
    machine.run(until=program.address("before"))
    before = machine.ledger.counts()
    machine.run(until=program.address("after"))
    counts = passage(machine, before)
    period = cycle(machine, program.address("after"))
    samples = []
    for _ in range(rounds):
        start = time.perf_counter()
        machine.run(fuel=period * HOST_CALLS)
        samples.append(time.perf_counter() - start)
    system.close()
    return element("call-gate", 1, counts, timing(samples, HOST_CALLS))


def snapshot_restore(rounds: int) -> dict[str, Any]:
    """Measure restoring a snapshot of a booted system after 1,000 instructions, policy included."""
    system = System([], SystemOptions(shell=False))
    system.run()
    snapshot = system.snapshot()
    samples = []
    for _ in range(rounds):
        system.run(fuel=1000)
        start = time.perf_counter()
        system.restore(snapshot)
        samples.append(time.perf_counter() - start)
    system.close()
    return {"name": "snapshot-restore", "n": 1, "wall_us": timing(samples, 1)}


def boot_time(rounds: int) -> dict[str, Any]:
    """Measure a boot without disks up to the point where nothing is left to do."""
    samples = []
    counts: dict[str, Any] = {}
    for _ in range(rounds):
        start = time.perf_counter()
        system = System([], SystemOptions(shell=False))
        system.run()
        samples.append(time.perf_counter() - start)
        counts = system.machine.ledger.counts().as_dict()
        system.close()
    return element("boot", 1, counts, timing(samples, 1))


def bench_ipc(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench ipc`."""
    empty = host_call(rounds)
    results = [
        ipc_null(rounds),
        ipc_null(rounds, fast_path=False),
        ipc_batch(rounds),
        ipc_batches(rounds),
        ipc_threads(rounds),
        empty,
        call_gate(rounds),
        boot_time(rounds),
        snapshot_restore(rounds),
    ]
    for result in results[:5]:
        result["ratio_to_host_call"] = round(result["wall_us"]["median"] / empty["wall_us"]["median"], 2)
    return results
