"""Silent servers and users: the prompt comes, and Ctrl-C ends every wait, whatever a server does."""

from pathlib import Path
from typing import Any

import pytest
import silent_servers as servers
from callgate.disk.media import ImageFile, MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.selectors import SLOTS
from callgate.kernel.files.paths import listed
from callgate.kernel.system import System, SystemOptions
from hushed import hush, install
from ipc_rig import FAST_PATH

PROMPT = "> "


FUEL = 30_000_000


# Mounting.


def boot(*media: Any, **options: Any) -> tuple[System, list[bytes], list[str]]:
    output: list[bytes] = []
    log: list[str] = []
    settings = {"log": log.append, "output": output.append, "fast_path": FAST_PATH, **options}
    return System(list(media), SystemOptions(**settings)), output, log


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


def test_an_interactive_session_has_a_prompt_after_the_first_volume_is_mounted_and_reports_late_ones(
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
    silent = next(endpoint for endpoint in kernel.state.endpoints.by_number.values() if endpoint.name == "d1")
    fields = kernel.slots.block(silent)
    assert not fields["free"] | fields["unused"]
    assert PROMPT not in terminal.type("cat /d1/f; echo never\r")
    assert fields["slot_waiters"] == 1
    shown = terminal.press_ctrl_c()
    assert shown.endswith("^C\n/d0> "), shown
    assert "never" not in shown
    assert kernel.check() == []


def test_ctrl_c_ends_a_command_at_any_instant(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_shell_starts_although_the_first_volume_no_longer_answers(
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
