"""Random schedules of clients and servers, with direct switches and without: what they see is the same.

In some worlds clients make batches, alone or beside clients that make one request at a time.

A schedule is a list of acts at instants: a preemption, a wake-up that comes for nothing, an interrupt, a death, a
volume that goes.  CALLGATE_SCHEDULES says how many are run.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from callgate.kernel.abi.errors import ErrorCode
from ipc_rig import Rigs

SCHEDULES = int(os.environ.get("CALLGATE_SCHEDULES", "150"))
AT_ONCE = 500  # by one test: several can run on several CPUs
COUNT = 6  # requests of a client
# Clients, threads of the server, entries of a batch that every second client makes, beginning with the first; 0 = none.
WORLDS = [(1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 3, 0), (3, 1, 0), (5, 2, 0), (1, 1, 3), (2, 1, 2), (3, 2, 4)]
KILLED = 9
ENOUGH = 400_000


class World:
    """A server, its clients about to make their first request, restored for each schedule."""

    def __init__(self, rigs: Rigs, clients: int, threads: int, entries: int, *, fast: bool) -> None:
        batcher = {"program": "batcher", "entries": entries}
        wanted = [
            {"count": COUNT, "seed": 0x1000 * (index + 1)} | (batcher if entries and index % 2 == 0 else {})
            for index in range(clients)
        ]
        self.rig: Any = rigs("inverter" if entries else "echo", *wanted, THREADS=threads, options={"fast_path": fast})
        self.rig.system.run(until=self.rig.label_of_client("before"))
        self.numbers = [process.number for process in self.rig.clients]
        self.kept = self.rig.system.snapshot()

    def again(self) -> Any:
        """Return the rig as it stood."""
        self.rig.system.restore(self.kept)
        self.rig.clients = [self.rig.kernel.state.tasks.processes[number] for number in self.numbers]
        return self.rig


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[tuple[int, int, int, bool], World]]:
    rigs = Rigs()
    yield {(*world, fast): World(rigs, *world, fast=fast) for world in WORLDS for fast in (True, False)}
    for made in rigs.made:
        made.system.close()


def preempt(made: Any, _client: int) -> None:
    made.kernel.scheduler.request_yield()


def wake(made: Any, client: int) -> None:
    for thread in made.clients[client].threads:
        made.kernel.scheduler.wake(thread)


def wake_the_server(made: Any, client: int) -> None:
    if made.endpoint.process is not None:
        threads = made.endpoint.process.threads
        for thread in threads[client % max(1, len(threads)) :][:1]:
            made.kernel.scheduler.wake(thread)


def interrupt(made: Any, client: int) -> None:
    for thread in made.clients[client].threads:
        made.kernel.threads.interrupt(thread)


def kill(made: Any, client: int) -> None:
    if made.clients[client].threads:
        made.kernel.processes.kill(made.clients[client], KILLED)


def kill_the_server(made: Any, _client: int) -> None:
    if not made.endpoint.dead:
        made.kernel.servers.kill(made.endpoint.process, "killed by the test")


def unplug(made: Any, _client: int) -> None:
    if not made.endpoint.dead:
        made.kernel.endpoint_lifetimes.die(made.endpoint, ErrorCode.UNPLUGGED)
        made.kernel.servers.kill(made.endpoint.process, "unplugged by the test")


HARMLESS = (preempt, preempt, preempt, wake, wake_the_server)
DEATHS = (kill, kill, kill_the_server, unplug)
Act = Callable[[Any, int], None]


@dataclass
class Schedule:
    """Acts, each after a number of instructions; and which codes each client may end with."""

    world: tuple[int, int, int]
    acts: list[tuple[int, Act, int]] = field(default_factory=list)
    allowed: list[set[int]] = field(default_factory=list)

    def add(self, gap: int, act: Act, client: int) -> None:
        """Add an act, and the codes that it makes possible."""
        self.acts.append((gap, act, client))
        if act is interrupt:
            self.allowed[client].add(100 + ErrorCode.INTERRUPTED)
        elif act is kill:
            self.allowed[client].add(KILLED)
        elif act in (kill_the_server, unplug):
            for codes in self.allowed:
                codes |= {100 + ErrorCode.SERVER_DIED, 100 + ErrorCode.UNPLUGGED}


def schedule_of(seed: int) -> Schedule:
    """Return a schedule: half of them hold nothing that a client could notice."""
    random = Random(seed)
    world = WORLDS[seed % len(WORLDS)]
    found = Schedule(world, allowed=[{0} for _ in range(world[0])])
    for _ in range(random.randrange(1, 12)):
        found.add(random.randrange(1, 400), random.choice(HARMLESS), random.randrange(world[0]))
    if random.random() < 0.5:
        for _ in range(random.randrange(1, 3)):
            found.add(random.randrange(1, 300), random.choice((interrupt, *DEATHS)), random.randrange(world[0]))
    random.shuffle(found.acts)
    return found


def run(made: Any, schedule: Schedule) -> tuple[list[int], int, int]:
    """Run a schedule to its end; return the clients' codes, and the requests and replies of the server."""
    for gap, act, client in schedule.acts:
        made.machine.run(fuel=gap)
        act(made, client)
        made.attention()
    assert made.run(ENOUGH).reason == "halt"
    assert made.unaccounted() == []
    return made.codes, made.requests, made.block["replies"]


@pytest.mark.parametrize("first", range(0, SCHEDULES, AT_ONCE))
def test_clients_and_servers_see_the_same_with_and_without_direct_switches(
    worlds: dict[tuple[int, int, int, bool], World], first: int
) -> None:
    fast, seeds = 0, range(first, min(first + AT_ONCE, SCHEDULES))
    for seed in seeds:
        schedule = schedule_of(seed)
        found = []
        for direct in (True, False):
            made = worlds[(*schedule.world, direct)].again()
            codes, requests, replies = run(made, schedule)
            assert all(code in allowed for code, allowed in zip(codes, schedule.allowed, strict=True)), (seed, codes)
            assert (made.block["fast"] == 0) or direct
            fast += made.block["fast"]
            found.append((codes, requests, replies))
        if all(allowed == {0} for allowed in schedule.allowed):
            requests = COUNT * schedule.world[0]
            assert found == [([0] * schedule.world[0], requests, requests)] * 2, seed
    assert fast > len(seeds) // 2, "batches never take the direct switch"
