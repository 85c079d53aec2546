"""Nobody waits for a server that he has not asked himself, and a killed thread ends whatever any server does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import silent_servers as servers
from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageFile, MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import SERVER_ERRORS, ErrorCode
from callgate.kernel.abi.selectors import SLOTS
from callgate.kernel.core.records import GIVE_BACKS, PartitionState, Process
from callgate.kernel.file_data.hunger import TRIES
from callgate.kernel.files.paths import listed
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes
from callgate.kernel.system import System, SystemOptions
from callgate.server.fat import FatServer

Arenas = Callable[..., Any]
SILENCES = [
    *(Operation.OPEN, Operation.CLOSE, Operation.READ, Operation.LOCK_DIRECTORY, Operation.UNLOCK_DIRECTORY),
    Operation.VOLUME,
]
END = 10_000  # instructions within which a killed thread is gone
PROMPT = "> "
FUEL = 30_000_000
LITTLE = 3_000_000


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("silent", frozenset()), ("answered", [])):
        monkeypatch.setattr(servers.Silent, name, value)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Return the image of a volume that answers."""
    folder, image = tmp_path / "good", tmp_path / "good.img"
    folder.mkdir()
    (folder / "GOOD.TXT").write_bytes(b"good\n")
    create_image(image, folder, fs="fat16", size=16 << 20)
    return image


def install(monkeypatch: pytest.MonkeyPatch, server: type[servers.Silent], **attributes: Any) -> None:
    """Have disks that begin as `servers.IMAGE` does served by `server`."""
    for name, value in attributes.items():
        monkeypatch.setattr(server, name, value)
    monkeypatch.setattr(volumes, "installed_servers", lambda: [server, FatServer])


def hush(monkeypatch: pytest.MonkeyPatch, *operations: Operation) -> None:
    """From now on no answer to these."""
    monkeypatch.setattr(servers.Silent, "silent", frozenset(operations))


def patron(rounds: int, disk: str = "d0", file: str = "f") -> bytes:
    """Return the argument of patron.asm."""
    return bytes([rounds]) + f"/{disk}\0/{disk}/{file}\0".encode()


def partition(made: Any, name: str) -> PartitionState:
    return next(p for p in made.kernel.state.endpoints.by_number.values() if p.name == name)


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
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, silence: Operation
) -> None:
    install(monkeypatch, servers.Silent)
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    hush(monkeypatch, silence)
    kept = made.system.snapshot()
    for steps in range(0, 12_000, 487):
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
        made.kernel.slots.block(partition(made, "d0"))["slot_waiters"] == 3
    )  # and what the directory's lock is given back by
    for victim in crowd:
        made.kernel.processes.kill(victim, 9)
        attention(made)
        made.run(fuel=END)
        assert not victim.threads
    assert made.kernel.check() == []


@pytest.mark.parametrize("steps", [10, 1_000, 10_000, 30_000, 60_000])
def test_a_server_that_is_killed_while_its_sectors_are_sorted_ends_in_time(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """506 sectors of four parts of a disk of 8 TiB, in an order that takes some 90,000 instructions to sort."""
    install(monkeypatch, servers.Shuffling)
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    disk = partition(made, "d0")
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
    # Another one of the same volume, after everybody has let go of what the silent server holds.
    innocent = start(made, patron(3, "d1", "GOOD.TXT"))
    attention(made)
    assert made.run(LITTLE).reason == "halt"
    assert innocent[0].exit_code == 0
    assert made.kernel.check() == []


def test_closing_and_unlocking_do_not_wait_for_the_server(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, servers.Silent)
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    hush(monkeypatch, Operation.CLOSE, Operation.UNLOCK_DIRECTORY)
    (process,) = start(made, patron(20))
    attention(made)
    assert made.run().reason == "halt"
    assert process.exit_code == 0
    assert made.output == bytes(5 * 20)
    state = partition(made, "d0")
    assert len(state.posted) == 1, "the server keeps one slot of its own"
    assert len(state.give_backs.entries) == 39
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
    state = partition(made, "d0")
    assert list(state.posted.values()) == [GIVE_BACKS], "idle data have been let go of, and there is no answer"
    # The data of another volume grow idle in their time all the same.
    second = made.start("sitter", b"/d1/GOOD.TXT")
    attention(made)
    start = clock.now
    while clock.now < start + 1_000_000_000:
        made.run(fuel=100)
    assert [file.fills for file in made.kernel.files.objects.values()] in ([[]], [[], []])
    assert made.run().reason == "halt"
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert made.kernel.check() == []


# What servers may say.


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("operation", [Operation.OPEN, Operation.LOCK_DIRECTORY, Operation.READ, Operation.CLOSE])
def test_a_client_hears_only_error_codes_that_a_server_may_say(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, operation: Operation
) -> None:
    install(monkeypatch, servers.Scolding, scolded=frozenset(), code=0)
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    monkeypatch.setattr(servers.Scolding, "scolded", frozenset([operation]))
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
        assert servers.Scolding.answered.count(operation) == 256, "each code is given once, and nobody asks again"
    assert not partition(made, "d0").give_backs.busy
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
    install(monkeypatch, servers.Insisting, error=error)
    made = arena(MemoryMedium(servers.IMAGE))
    (process,) = (made.run(), start(made, patron(1)))[1]
    attention(made)
    assert made.run(LITTLE).reason == "halt"
    assert process.exit_code == 0
    assert made.output[3] in {heard, ErrorCode.CORRUPT}
    assert servers.Insisting.answered.count(Operation.READ) <= TRIES
    assert made.kernel.check() == []


def test_a_server_that_gives_one_byte_an_answer_is_asked_a_bounded_number_of_times_for_a_page(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer is good, and a page would take 4,096 of them."""
    install(monkeypatch, servers.Dripping)
    made = arena(MemoryMedium(servers.IMAGE))
    (process,) = (made.run(), start(made, patron(1)))[1]
    attention(made)
    assert made.run(30 * LITTLE).reason == "halt"
    assert process.exit_code == 0
    assert made.output[3] == ErrorCode.BAD_REPLY
    assert TRIES // 2 < servers.Dripping.answered.count(Operation.READ) <= TRIES
    assert made.kernel.check() == []


def test_a_server_without_memory_costs_others_none_of_their_data(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, good: Path
) -> None:
    install(monkeypatch, servers.Insisting, error=int(ErrorCode.NO_MEMORY))
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
    file.opens += 1  # somebody has the file open, whose data are idle, to the end of the test
    made.system.run(fuel=LITTLE, until=lambda: holder.exit_code is not None)
    assert [fill.idling for fill in file.fills] == [True]
    (asker,) = start(made, patron(1))
    attention(made)
    made.system.run(fuel=LITTLE, until=lambda: asker.exit_code is not None)
    assert ErrorCode.NO_MEMORY in made.output
    assert reclaimed == [False], "nothing of this server's was there, and nothing of anybody else's was let go of"
    made.kernel.letting_go.close_object(file)
    attention(made)
    assert made.run(LITTLE).reason == "halt"


# Mounting.


def boot(*media: Any, **options: Any) -> tuple[System, list[bytes], list[str]]:
    output: list[bytes] = []
    log: list[str] = []
    return System(list(media), SystemOptions(log=log.append, output=output.append, **options)), output, log


def test_a_server_that_never_mounts_neither_stops_the_boot_nor_another_volume(
    monkeypatch: pytest.MonkeyPatch, good: Path
) -> None:
    install(monkeypatch, servers.Late, delay=None)
    system, output, log = boot(MemoryMedium(servers.IMAGE), ImageFile(good), commands="cat /d1/GOOD.TXT; ls /d0")
    with system:
        assert system.run(fuel=FUEL).reason == "exit"
        assert b"".join(output) == b"good\nls: /d0: no such file or directory\n"
        assert log == [
            "d0: 64 sectors, CALLGATE VIRTUAL DISK",
            "d0: not mounted: it did not mount within 2000 ms of virtual time (--mount-deadline)",
            "d1: 32768 sectors, CALLGATE VIRTUAL DISK",
            "/d1: fat16, label CALLGATE",
        ]
        assert system.kernel.check() == []
        assert not [p for p in system.kernel.state.tasks.processes.values() if "d0" in p.name], "it has been killed"


def test_a_person_gets_a_prompt_when_the_first_volume_is_there_and_hears_of_a_late_one(
    monkeypatch: pytest.MonkeyPatch, good: Path
) -> None:
    install(monkeypatch, servers.Late, delay=500_000_000)
    system, _, log = boot(MemoryMedium(servers.IMAGE), ImageFile(good), interactive=True)
    with system:
        assert system.run(until="system_read_character").reason == "until"
        assert system.machine.clock.now < 100_000_000
        assert "/d1: fat16, label CALLGATE" in log
        assert not any(line.startswith("/d0") for line in log)
        assert system.run(fuel=FUEL).reason == "halt"
        assert log[-1] == "/d0: synthetic, label (none)"
        assert [p.name for p in listed(system.kernel.state.endpoints)] == ["rom", "d0", "d1"]


def test_a_script_sees_volumes_that_mount_within_their_deadline(monkeypatch: pytest.MonkeyPatch, good: Path) -> None:
    install(monkeypatch, servers.Late, delay=500_000_000)
    system, output, log = boot(MemoryMedium(servers.IMAGE), ImageFile(good), commands="ls /")
    with system:
        assert system.run(fuel=FUEL).reason == "exit"
        assert b"".join(output).split() == [b"d0", b"d1", b"rom"]
        assert [line for line in log if line.startswith("/")] == [
            "/d0: synthetic, label (none)",
            "/d1: fat16, label CALLGATE",
        ]


def test_the_deadline_of_mounts_can_be_set(monkeypatch: pytest.MonkeyPatch, good: Path) -> None:
    install(monkeypatch, servers.Late, delay=500_000_000)
    disks = MemoryMedium(servers.IMAGE), ImageFile(good)
    system, _, log = boot(*disks, commands="ls /", mount_deadline=400_000_000)
    with system:
        assert system.run(fuel=FUEL).reason == "exit"
        assert any("did not mount within 400 ms" in line for line in log)


# The shell.


class Terminal:
    """An interactive shell beside a volume whose server falls silent."""

    def __init__(self, good: Path) -> None:
        self.system, self.printed, self.log = boot(ImageFile(good), MemoryMedium(servers.IMAGE), interactive=True)
        assert self.system.run(fuel=FUEL).reason == "halt"
        self.screen()

    def screen(self) -> str:
        self.system.machine.serial.flush()
        text = b"".join(self.printed).decode()
        self.printed.clear()
        return text

    def type(self, keys: str) -> str:
        self.system.machine.serial.feed(keys.encode())
        assert self.system.run(fuel=FUEL).reason == "halt"
        return self.screen()

    def press_ctrl_c(self) -> str:
        assert self.system.machine.serial.send_break()
        assert self.system.run(fuel=FUEL).reason == "halt"
        return self.screen()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, good: Path) -> Any:
    install(monkeypatch, servers.Silent)
    made = Terminal(good)
    yield made
    made.system.close()


@pytest.mark.parametrize(
    ("silence", "command"),
    [
        (Operation.OPEN, "cat /d1/f"),
        (Operation.READ, "cat /d1/f"),
        (Operation.READ, "crc32 /d1/f"),
        (Operation.READ, "hexdump /d1/f"),
        (Operation.LOCK_DIRECTORY, "dir /d1"),
        (Operation.LOCK_DIRECTORY, "ls /d1"),
        (Operation.LOCK_DIRECTORY, "cd /d1"),
        (Operation.LOCK_DIRECTORY, "tree /"),
        (Operation.LOCK_DIRECTORY, "cat /d1/*"),
        (Operation.OPEN, "/d1/f"),
    ],
)
def test_ctrl_c_ends_a_command_that_waits_for_a_silent_server(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, silence: Operation, command: str
) -> None:
    hush(monkeypatch, silence)
    assert PROMPT not in terminal.type(command + "; echo never\r")
    shown = terminal.press_ctrl_c()
    assert shown.endswith("^C\n/d0> "), shown
    assert "never" not in shown
    assert "interrupted" not in shown
    assert terminal.type("echo $?; cat GOOD.TXT\r").endswith("130\ngood\n/d0> ")
    assert terminal.system.kernel.check() == []


def test_ctrl_c_ends_a_command_that_waits_for_a_slot_of_a_silent_server(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command before it has left a slot with the server, until there was none."""
    hush(monkeypatch, Operation.OPEN)
    for _ in range(SLOTS):
        terminal.type("cat /d1/f\r")
        assert terminal.press_ctrl_c().endswith("^C\n/d0> ")
    kernel = terminal.system.kernel
    silent = next(partition for partition in kernel.state.endpoints.by_number.values() if partition.name == "d1")
    fields = kernel.slots.block(silent)
    assert not fields["free"] | fields["unused"]
    assert PROMPT not in terminal.type("cat /d1/f; echo never\r")
    assert fields["slot_waiters"] == 1
    shown = terminal.press_ctrl_c()
    assert shown.endswith("^C\n/d0> "), shown
    assert "never" not in shown
    assert kernel.check() == []


def test_ctrl_c_ends_a_command_whenever_it_comes(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    hush(monkeypatch, Operation.READ)
    kept = terminal.system.snapshot()
    for delay in range(300, 9_000, 397):
        terminal.system.restore(kept)
        terminal.screen()
        terminal.system.machine.serial.feed(b"cat /d1/f; echo never\r")
        terminal.system.run(fuel=delay)
        shown = terminal.press_ctrl_c()
        assert shown.count("^C\n/d0> ") == 1, (delay, shown)
        assert terminal.type("cat GOOD.TXT\r").endswith("good\n/d0> "), delay


def test_df_shows_the_volumes_that_answer_first_and_says_which_does_not(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    hush(monkeypatch, Operation.VOLUME)
    before = terminal.system.machine.clock.now
    rows = terminal.type("df\r").splitlines()
    assert terminal.system.machine.clock.now - before < 2_000_000_000
    assert [row.split()[0] for row in rows[2:]] == ["/rom", "/d0", "/d1", "/d0>"]
    assert rows[4].endswith("does not answer")
    # The name of a volume is found without its server.
    assert "fat16" in terminal.type("vol /d0\r")
    assert "does not answer" in terminal.type("vol /d1\r")


def test_ctrl_c_ends_df_while_it_waits(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    hush(monkeypatch, Operation.VOLUME)
    shown = ""
    terminal.system.machine.serial.feed(b"df; echo never\r")
    while "/d0 " not in shown:
        terminal.system.run(fuel=100)
        shown += terminal.screen()
    start = terminal.system.machine.clock.now
    shown = terminal.press_ctrl_c()
    assert shown.endswith("^C\n/d0> "), shown
    assert terminal.system.machine.clock.now - start < 500_000_000
    assert terminal.type("cat GOOD.TXT\r").endswith("good\n/d0> ")


def test_the_shell_starts_although_the_first_volume_has_fallen_silent(
    monkeypatch: pytest.MonkeyPatch, good: Path
) -> None:
    install(monkeypatch, servers.Silent)
    system, output, _ = boot(
        MemoryMedium(servers.IMAGE),
        ImageFile(good),
        commands="cat /d1/GOOD.TXT; dir /d1",
        prepare=lambda _kernel: hush(monkeypatch, *Operation),
    )
    with system:
        assert system.run(fuel=FUEL).reason == "exit"
        assert b"".join(output).startswith(b"good\n")
        assert b"GOOD.TXT" in b"".join(output)
