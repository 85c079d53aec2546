"""Servers of other packages that raise: at import, in probes, when they serve; and the lines that -q still shows."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.kernel.servers import hosted_servers

Command = Callable[..., Any]
MAGIC = b"broken server's disk"
HEAD = """
from callgate.kernel.abi.calls import Operation
from callgate.server.hosted import HostedServer, operation
from callgate.server.message import Data, RegisterValues

class Broken(HostedServer):
    name = "broken"

    @classmethod
    def probe(cls, first):
        return "broken" if first.startswith(b"broken server's disk") else None

    @operation(Operation.VOLUME)
    async def volume(self, request):
        return Data(b"BROKEN", RegisterValues())
"""
RECOGNISER = """
from callgate.server.hosted import Recogniser

class Broken(Recogniser):
    name = "broken"

    @classmethod
    def probe(cls, first):
        return "broken" if first.startswith(b"broken server's disk") else None

    @classmethod
    def server_class(cls):
"""
LISTING = """
    @operation(Operation.LOCK_DIRECTORY)
    async def listing(self, request):
        return self.deeper({})

    def deeper(self, known):
        return known["a name"]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Install a package with a server: `install(source)`; its disk is `broken.img`, a sound one `good.img`."""
    site = tmp_path / "site"
    information = site / "broken_fs-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-fs\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[callgate.servers]\nbroken = broken_fs:Broken\n")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "A.TXT").write_text("text\n")
    create_image(tmp_path / "good.img", tmp_path / "files")
    (tmp_path / "broken.img").write_bytes(MAGIC.ljust(1 << 16, b"\0"))

    def put(source: str) -> None:
        (site / "broken_fs.py").write_text(source)
        monkeypatch.syspath_prepend(str(site))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, "broken_fs", raising=False)

    return put


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", "SyntaxError: invalid syntax (broken_fs.py, line 1)"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("other = 1", "AttributeError: module 'broken_fs' has no attribute 'Broken'"),
        ("Broken = 5", "it is neither a HostedServer nor a Recogniser"),
    ],
)
def test_a_server_that_cannot_be_imported_is_skipped_by_name(
    command_line: Command, install: Callable[[str], None], source: str, reason: str
) -> None:
    install(source)
    line = f"callgate: server broken of package broken-fs (broken_fs:Broken) is not used: {reason}\n"
    booted = command_line("boot", "good.img", "-c", "cat A.TXT")
    assert (booted.status, booted.stdout) == (0, b"text\n")
    assert line in booted.messages
    inspected = command_line("disk", "inspect", "good.img")
    assert (inspected.status, inspected.messages) == (0, line)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("probe(cls, first):\n        return 1 / 0", "probe raised ZeroDivisionError: division by zero"),
        ("probe(cls, first):\n        return b'x'", "probe returned bytes, and not str or None"),
        ("explain(cls, last):\n        raise SystemExit", "explain raised SystemExit"),
    ],
)
def test_a_server_whose_probe_raises_is_named_and_passed_over(
    command_line: Command, install: Callable[[str], None], method: str, reason: str
) -> None:
    install(f"{HEAD}\n    @classmethod\n    def {method}\n")
    Path("unknown.img").write_bytes(bytes(1 << 16))
    booted = command_line("boot", "good.img", "unknown.img", "-c", "cat A.TXT")
    assert (booted.status, booted.stdout) == (0, b"text\n")
    assert f"callgate: server broken cannot tell: {reason}\n" in booted.messages
    inspected = command_line("disk", "inspect", "unknown.img")
    assert inspected.status == 0
    assert f"    problem: server broken cannot tell: {reason}\n" in inspected.stdout.decode()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("import no_such_module", "raised ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)", "raised SystemExit: 3"),
        ("return cls", "returned no HostedServer"),
        ("return 5", "returned no HostedServer"),
    ],
)
def test_a_server_whose_code_cannot_be_imported_for_a_partition_it_claims_is_named_and_passed_over(
    command_line: Command, install: Callable[[str], None], body: str, problem: str
) -> None:
    install(f"{RECOGNISER}        {body}\n")
    line = f"server broken cannot serve what it claims: server_class {problem}"
    booted = command_line("boot", "good.img", "broken.img", "-c", "cat A.TXT")
    assert (booted.status, booted.stdout) == (0, b"text\n")
    assert booted.messages.count(f"callgate: {line}\n") == 1
    assert "callgate: d1: no file system that a server knows, skipped\n" in booted.messages
    inspected = command_line("disk", "inspect", "broken.img")
    assert (inspected.status, f"    problem: {line}\n" in inspected.stdout.decode()) == (0, True)
    assert "server broken" not in command_line("boot", "good.img", "-c", "true").messages


def test_a_server_s_exception_shows_where_it_came_from(command_line: Command, install: Callable[[str], None]) -> None:
    install(HEAD + LISTING)
    outcome = command_line("boot", "broken.img", "-c", "ls")
    lines = outcome.messages.splitlines()
    at = lines.index("callgate: /d0: server ended: handler raised KeyError: 'a name'")
    assert [line.partition(", line ")[::2] for line in lines[at + 1 : at + 3]] == [
        ("callgate:   broken_fs", "19, in listing: return self.deeper({})"),
        ("callgate:   broken_fs", '22, in deeper: return known["a name"]'),
    ]
    assert lines[at + 3 :] == []


def test_inspect_shows_a_server_s_exception_as_a_problem(command_line: Command, install: Callable[[str], None]) -> None:
    install(HEAD + LISTING)
    outcome = command_line("disk", "inspect", "broken.img")
    assert (outcome.status, outcome.messages) == (0, "")
    problem = "problem: its server raised KeyError: 'a name': broken_fs, line 22, in deeper"
    assert f'    {problem}: return known["a name"]\n' in outcome.stdout.decode()


@pytest.mark.parametrize("place", ["    def __init__(self, *arguments):", "    async def start(self):"])
def test_a_server_that_ends_the_interpreter_ends_itself_alone(
    command_line: Command, install: Callable[[str], None], place: str
) -> None:
    install(f"{HEAD}\n{place}\n        raise SystemExit(4)\n")
    inspected = command_line("disk", "inspect", "broken.img")
    assert inspected.status == 0
    assert "problem: its server raised SystemExit: 4: broken_fs, line 18, in " in inspected.stdout.decode()
    listed = command_line("disk", "ls", "broken.img")
    assert listed.status == 5
    assert "its server raised SystemExit: 4" in listed.messages
    assert command_line("boot", "broken.img", "good.img", "-c", "cat /d1/A.TXT").stdout == b"text\n"


def test_a_server_that_ends_the_interpreter_at_a_request_is_reported(
    command_line: Command, install: Callable[[str], None]
) -> None:
    install(HEAD + LISTING.replace("return self.deeper({})", "raise SystemExit(4)"))
    listed = command_line("disk", "ls", "broken.img")
    assert (listed.status, listed.messages) == (
        1,
        "callgate: broken.img: its server raised SystemExit: 4: broken_fs, line 19, in listing: raise SystemExit(4)\n",
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("    def __init__(self, memory, geometry):\n        raise OSError('no')\n", "its server raised OSError: no"),
        ("    async def start(self):\n        raise OSError('no')\n", "the file-system server died"),
    ],
)
def test_a_server_that_cannot_be_started_leaves_other_volumes_alone(
    command_line: Command, install: Callable[[str], None], source: str, reason: str
) -> None:
    install(HEAD + source)
    outcome = command_line("boot", "broken.img", "good.img", "-c", "cat A.TXT /d1/A.TXT")
    assert outcome.stdout == b"text\ntext\n"
    assert f"callgate: d0: not mounted: {reason}\n" in outcome.messages


LOOP = "        while True:\n            pass\n"
UNKNOWN = "    @classmethod\n    def probe(cls, first):\n        return None\n"
STUCK = "its Python did not return within 0.1 s"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (f"{HEAD}    def __init__(self, memory, geometry):\n{LOOP}", f"d0: not mounted: {STUCK}, and made no server"),
        (
            f"{HEAD}    @classmethod\n    def probe(cls, first):\n{LOOP}",
            f"server broken cannot tell: probe raised HandlerStuck: {STUCK}",
        ),
        (
            f"{HEAD}{UNKNOWN}    @classmethod\n    def explain(cls, last):\n{LOOP}",
            f"server broken cannot tell: explain raised HandlerStuck: {STUCK}",
        ),
        (
            f"{RECOGNISER}{LOOP}",
            f"server broken cannot serve what it claims: server_class raised HandlerStuck: {STUCK}",
        ),
    ],
)
def test_a_servers_python_that_never_returns_leaves_other_volumes_alone(
    command_line: Command, install: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    monkeypatch.setattr(hosted_servers, "STEP_SECONDS", 0.1)
    install(source)
    outcome = command_line("boot", "broken.img", "good.img", "-c", "cat A.TXT /d1/A.TXT")
    assert outcome.stdout == b"text\ntext\n"
    assert f"callgate: {reason}" in outcome.messages


def test_an_exception_whose_text_raises_is_reported_as_well(
    command_line: Command, install: Callable[[str], None]
) -> None:
    install(
        "class Odd(Exception):\n    def __str__(self):\n        raise ValueError\n"
        f"{HEAD}\n    async def start(self):\n        raise Odd\n"
    )
    outcome = command_line("boot", "broken.img", "good.img", "-c", "true")
    assert "/d0: server ended: handler raised Odd: (its text is not available: ValueError)\n" in outcome.messages


class TestQuiet:
    """-q drops only the boot log."""

    def test_quiet_still_shows_the_end_of_a_server(self, command_line: Command, install: Callable[[str], None]) -> None:
        install(HEAD + LISTING)
        lines = command_line("boot", "-q", "broken.img", "-c", "ls").messages.splitlines()
        assert lines[0] == "callgate: /d0: server ended: handler raised KeyError: 'a name'"
        assert len(lines) == 3

    def test_quiet_still_shows_the_end_of_a_server_while_it_mounts(
        self, command_line: Command, install: Callable[[str], None]
    ) -> None:
        install(f"{HEAD}\n    async def start(self):\n        raise OSError('no')\n")
        lines = command_line("boot", "-q", "good.img", "broken.img", "-c", "true").messages.splitlines()
        assert lines[0] == "callgate: /d1: server ended: handler raised OSError: no"
        assert all(line.startswith("callgate:   ") for line in lines[1:])

    def test_quiet_still_shows_the_removal_of_a_disk(self, command_line: Command) -> None:
        outcome = command_line("boot", "-q", "-c", "cat PATTERN.BIN", "--unplug-at", "80000")
        gone = "callgate: /{}: gone, the disk was removed\n"
        assert outcome.messages == gone.format("d0p1") + gone.format("d0p2")

    def test_quiet_still_shows_a_fault(self, command_line: Command) -> None:
        outcome = command_line("boot", "-q", "-c", "/rom/crash r")
        assert outcome.messages.startswith("callgate: process 5 (crash) ended by #PF page fault: read of 0x00000000")
        assert "<read_null> mov eax, dword ptr [eax]" in outcome.messages
        assert "sectors" not in outcome.messages
