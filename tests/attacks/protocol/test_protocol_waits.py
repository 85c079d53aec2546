"""No thread waits for a server that it has not asked itself, and a killed thread ends whatever any server does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import silent_servers as servers
from callgate.disk.media import ImageFile, MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import SERVER_ERRORS, ErrorCode
from callgate.kernel.abi.message import TOKEN_RELEASES
from callgate.kernel.core.records import Process
from callgate.kernel.file_data.hunger import TRIES
from callgate.kernel.machine.devices.serial import IRQ
from hushed import endpoint, hush, install

Arenas = Callable[..., Any]
SILENCES = [
    *(Operation.OPEN, Operation.CLOSE, Operation.READ, Operation.LOCK_DIRECTORY, Operation.UNLOCK_DIRECTORY),
    Operation.VOLUME,
]
END = 10_000  # instructions within which a killed thread ends
LITTLE = 3_000_000


def patron(rounds: int, disk: str = "d0", file: str = "f") -> bytes:
    """Return the argument of patron.asm."""
    return bytes([rounds]) + f"/{disk}\0/{disk}/{file}\0".encode()


def attention(made: Any) -> None:
    """Interrupt a CPU that may be halted."""
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)


def start(made: Any, *arguments: bytes) -> list[Process]:
    return [made.start("patron", argument) for argument in arguments]


# Death.


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("silence", SILENCES)
def test_a_killed_client_of_a_server_that_is_silent_about_one_operation_ends_at_any_instant(
    arena: Arenas,
    monkeypatch: pytest.MonkeyPatch,
    silence: Operation,
    some_of: Callable[[range, int], list[int]],
) -> None:
    install(monkeypatch, servers.Silent)
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    hush(monkeypatch, silence)
    kept = made.system.snapshot()
    for steps in some_of(range(0, 12_000, 487), 3):
        made.system.restore(kept)
        (victim,) = start(made, patron(4))
        attention(made)
        made.run(fuel=steps)
        made.kernel.processes.kill(victim, 9)
        attention(made)
        made.run(fuel=END)
        assert not victim.threads, (steps, victim)
        assert made.kernel.check() == [], steps


def test_a_killed_client_ends_even_if_it_waits_for_a_slot_of_a_silent_server(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, servers.Silent)
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    hush(monkeypatch, Operation.OPEN)
    crowd = start(made, *[patron(1)] * 34)
    attention(made)
    assert made.run().reason == "halt"
    assert (
        made.kernel.slots.block(endpoint(made, "d0"))["slot_waiters"] == 3
    )  # and what the directory's lock is given back by
    for victim in crowd:
        made.kernel.processes.kill(victim, 9)
        attention(made)
        made.run(fuel=END)
        assert not victim.threads
    assert made.kernel.check() == []


@pytest.mark.thorough(one_in=5)
@pytest.mark.parametrize("steps", [10, 1_000, 10_000, 30_000, 60_000])
def test_a_server_that_is_killed_while_its_sectors_are_sorted_ends_in_time(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """506 sectors of four parts of a disk of 8 TiB, in an order that takes some 90,000 instructions to sort."""
    install(monkeypatch, servers.Shuffling)
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    disk = endpoint(made, "d0")
    disk.sectors = 1 << 34
    (client,) = start(made, patron(1))
    attention(made)
    assert made.system.run(until="sort_sectors").reason == "until"
    made.run(fuel=steps)
    server = made.kernel.state.tasks.processes[disk.process.number]
    made.kernel.servers.kill(server, "killed by the test")
    begun = made.system.machine.clock.retired
    while server.threads and made.system.machine.clock.retired < begun + 20 * END:
        made.run(fuel=100)
    assert made.system.machine.clock.retired - begun <= END
    assert made.run().reason == "halt"
    assert client.exit_code == 0
    assert made.kernel.check() == []


# Innocent threads.


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("silence", SILENCES)
def test_a_reader_of_another_volume_does_not_wait_for_a_silent_server(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, good: Path, silence: Operation
) -> None:
    install(monkeypatch, servers.Silent)
    made = arena(MemoryMedium(servers.IMAGE), ImageFile(good))
    assert made.run(LITTLE).reason == "halt"
    hush(monkeypatch, silence)
    hostile = start(made, patron(3), patron(3))
    innocent = start(made, patron(3, "d1", "GOOD.TXT"))
    attention(made)
    assert made.run(LITTLE).reason == "halt"
    assert innocent[0].exit_code == 0
    for process in hostile:
        made.kernel.processes.kill(process, 9)
    attention(made)
    assert made.run(LITTLE).reason == "halt"
    # Another one of the same volume, after all programs have released what the silent server holds.
    innocent = start(made, patron(3, "d1", "GOOD.TXT"))
    attention(made)
    assert made.run(LITTLE).reason == "halt"
    assert innocent[0].exit_code == 0
    assert made.kernel.check() == []


def test_closing_and_unlocking_do_not_wait_for_the_server(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, servers.Silent)
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    hush(monkeypatch, Operation.CLOSE, Operation.UNLOCK_DIRECTORY, Operation.BATCH)
    (process,) = start(made, patron(20))
    attention(made)
    assert made.run().reason == "halt"
    assert process.exit_code == 0
    assert made.output == bytes(5 * 20)
    state = endpoint(made, "d0")
    assert len(made.kernel.slots.tokens(state)) == 1, "the server keeps one slot of its own"
    assert len(state.releases.entries) + len(state.releases.posted) == 40
    assert made.kernel.check() == []


def test_the_thread_that_ages_file_data_waits_for_no_server(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, good: Path
) -> None:
    layout = servers.synthetic.Layout(servers.SIZE, [(8, 16)], kind="object")
    install(monkeypatch, servers.Silent, files={"f": layout})
    made = arena(MemoryMedium(servers.IMAGE), ImageFile(good))
    assert made.run().reason == "halt"
    hush(monkeypatch, Operation.RELEASE)
    first = made.start("sitter", b"/d0/f")
    attention(made)
    clock = made.system.machine.clock
    start = clock.now
    while clock.now < start + 1_000_000_000:
        made.run(fuel=100)
    state = endpoint(made, "d0")
    assert list(made.kernel.slots.tokens(state).values()) == [TOKEN_RELEASES], (
        "idle data have been let go of, and there is no answer"
    )
    # The data of another volume grow idle in their time all the same.
    second = made.start("sitter", b"/d1/GOOD.TXT")
    attention(made)
    start = clock.now
    while clock.now < start + 1_000_000_000:
        made.run(fuel=100)
    assert [file.spans for file in made.kernel.files.objects.values()] in ([[]], [[], []])
    assert made.run().reason == "halt"
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert made.kernel.check() == []


# What servers may say.


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("operation", [Operation.OPEN, Operation.LOCK_DIRECTORY, Operation.READ, Operation.CLOSE])
def test_a_client_sees_only_error_codes_that_a_server_may_return(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, operation: Operation
) -> None:
    install(monkeypatch, servers.AnswersWithErrors, scolded=frozenset(), code=0)
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    monkeypatch.setattr(servers.AnswersWithErrors, "scolded", frozenset([operation]))
    endpoint(made, "d0").releases.one_by_one = True  # nothing is put off that it could be told before it is asked again
    processes = start(made, patron(128))
    attention(made)
    assert made.run().reason == "halt"
    processes += start(made, patron(128))
    attention(made)
    assert made.run().reason == "halt"
    assert [process.exit_code for process in processes] == [0, 0]
    heard = set(made.output)
    allowed = {int(code) for code in SERVER_ERRORS.values()} | {0, int(ErrorCode.BAD_REPLY)}
    assert heard <= allowed, heard - allowed
    if operation is not Operation.CLOSE:
        assert heard == allowed, allowed - heard
        assert servers.AnswersWithErrors.answered.count(operation) == 256, (
            "each code is given once, and no request is repeated"
        )
    assert not endpoint(made, "d0").releases.busy
    assert made.kernel.check() == []


@pytest.mark.parametrize(
    ("error", "heard"),
    [
        (0, ErrorCode.BAD_REPLY),
        (ErrorCode.NO_MEMORY, ErrorCode.NO_MEMORY),
        (ErrorCode.KILLED, ErrorCode.BAD_REPLY),
        (ErrorCode.INTERRUPTED, ErrorCode.BAD_REPLY),
    ],
)
def test_a_server_that_gives_every_read_the_same_useless_answer_is_asked_a_bounded_number_of_times(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, error: int, heard: ErrorCode
) -> None:
    install(monkeypatch, servers.AlwaysAnswersAlike, error=error)
    made = arena(MemoryMedium(servers.IMAGE))
    (process,) = (made.run(), start(made, patron(1)))[1]
    attention(made)
    assert made.run(LITTLE).reason == "halt"
    assert process.exit_code == 0
    assert made.output[3] in {heard, ErrorCode.CORRUPT}
    assert servers.AlwaysAnswersAlike.answered.count(Operation.READ) <= TRIES
    assert made.kernel.check() == []


def test_a_server_that_gives_one_byte_an_answer_is_asked_a_bounded_number_of_times_for_a_page(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer is good, and a page would take 4,096 of them."""
    install(monkeypatch, servers.OneByteReplies)
    made = arena(MemoryMedium(servers.IMAGE))
    (process,) = (made.run(), start(made, patron(1)))[1]
    attention(made)
    assert made.run(30 * LITTLE).reason == "halt"
    assert process.exit_code == 0
    assert made.output[3] == ErrorCode.BAD_REPLY
    assert TRIES // 2 < servers.OneByteReplies.answered.count(Operation.READ) <= TRIES
    assert made.kernel.check() == []


def test_a_server_without_memory_costs_other_servers_none_of_their_data(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, good: Path
) -> None:
    install(monkeypatch, servers.AlwaysAnswersAlike, error=int(ErrorCode.NO_MEMORY))
    made = arena(MemoryMedium(servers.IMAGE), ImageFile(good))
    made.run()
    reclaimed: list[bool] = []
    reclaim = made.kernel.letting_go.reclaim
    monkeypatch.setattr(
        made.kernel.letting_go, "reclaim", lambda **of: (reclaimed.append(reclaim(**of)), reclaimed[-1])[1]
    )
    holder = made.start("patron", patron(1, "d1", "GOOD.TXT"))
    attention(made)
    objects = made.kernel.files.objects
    while not objects:
        made.run(fuel=200)
    (file,) = objects.values()
    file.opens += 1  # a program has the file open, whose data are idle, to the end of the test
    made.system.run(fuel=LITTLE, until=lambda: holder.exit_code is not None)
    assert [span.idling for span in file.spans] == [True]
    (asker,) = start(made, patron(1))
    attention(made)
    made.system.run(fuel=LITTLE, until=lambda: asker.exit_code is not None)
    assert ErrorCode.NO_MEMORY in made.output
    assert reclaimed == [False, False], "this server had no data, and no others were released"
    made.kernel.letting_go.close_object(file)
    attention(made)
    assert made.run(LITTLE).reason == "halt"
