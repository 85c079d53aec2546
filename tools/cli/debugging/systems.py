"""The systems that `callgate debug` steps through, each with its history."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from callgate.kernel.system import System
    from callgate.tools.debugger.dap.protocol import Arguments
    from callgate.tools.debugger.history import History
    from callgate.tools.debugger.target import BareMachine, Subject
    from callgate.tools.recording import Recording

MILLISECOND: Final = 1_000_000  # nanoseconds
RECORDING: Final = ".cgr"  # how the names of recordings end
HEAD: Final = 64  # bytes that tell a recording from an image


class Machine(TypedDict):
    """What the options of the machine give."""

    memory: int
    high_memory: int
    ide: bool
    mount_deadline: int
    map_edges: bool
    fast_path: bool
    scratch: bool


def printed(data: bytes) -> None:
    """Write what the guest prints."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class Outlet:
    """Where what the guest prints goes: it can change, while the machine and its history keep this function."""

    def __init__(self, to: Callable[[bytes], None]) -> None:
        self.to = to

    def __call__(self, data: bytes) -> None:
        """Hand bytes on."""
        self.to(data)


OUTLET = Outlet(printed)


def is_a_recording(path: Path) -> bool:
    """Whether a file is a recording, and not an image."""
    from callgate.tools.recording import is_recording

    try:
        with path.open("rb") as file:
            return is_recording(file.read(HEAD))
    except OSError:
        return False


def is_a_case(path: Path) -> bool:
    """Whether a file is one of cases, or FILE::CASE of one."""
    return Path(str(path).partition("::")[0]).suffix == ".asm"


def case_run(path: Path) -> Recording:
    """Run a case without pytest; return its recording, which is in no file; RecordingError.

    If it does not hold, that is said.
    """
    from callgate.tools.asmtest.cases.alone import BETWEEN, NoCase, run_alone
    from callgate.tools.recording import RecordingError, parsed_recording

    file, _, name = str(path).partition(BETWEEN)
    try:
        ran = run_alone(Path(file), name, Path.cwd())
    except NoCase as error:
        raise RecordingError(path, str(error)) from None
    if ran.failure:
        print(f"callgate: the case does not hold: {ran.failure}; `goto end` leads there", file=sys.stderr)
    recording = parsed_recording(path, ran.recording.encode())
    recording.from_start = True
    return recording


def recorded(recording: Recording, images: Sequence[Path]) -> System | BareMachine:
    """Return the system of a recording, before its first instruction; ImageError, RecordingError.

    A recording of a test's calls is of a machine without a kernel, which stands before the first call.
    """
    subject = test_machine(recording, images) if recording.of_calls else recording.system(images)
    subject.machine.serial.output = OUTLET
    return subject


def test_machine(recording: Recording, images: Sequence[Path]) -> BareMachine:
    """Return the machine of a test's calls; RecordingError."""
    from callgate.tools.debugger.target import BareMachine
    from callgate.tools.recording import RecordingError

    if images:
        raise RecordingError(recording.path, "is of a test without disks: name no image after it")
    calls = recording.calls()
    return BareMachine(calls.machine, calls.header.programs, "test", calls)


def made(files: Sequence[Path], commands: Sequence[str], unplug: Sequence[tuple[int, int]], machine: Machine) -> System:
    """Return a system with images, before its first instruction; ImageError; click.UsageError for its options."""
    from callgate.asm.assembler.cache import cache_directory
    from callgate.disk.images.demo import demo_image
    from callgate.disk.media import open_image
    from callgate.kernel.common.record import replaced
    from callgate.kernel.system import System, SystemOptions
    from callgate.tools.session.options import SessionOptions

    text = "; ".join(commands) if commands else None
    problem = SessionOptions(list(files), text, **machine).problem()
    if problem:
        raise click.UsageError(problem)
    media = [open_image(path) for path in files or [demo_image(cache_directory())]]
    for clock, disk in unplug:
        if disk >= len(media):
            raise click.UsageError(f"--unplug-at {clock}:{disk}: the last disk is {len(media) - 1}")
    try:
        options = SystemOptions(commands=text, output=OUTLET, **machine)
        system = System(media, replaced(options, mount_deadline=machine["mount_deadline"] * MILLISECOND))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    for clock, disk in unplug:
        system.unplug_at(clock, disk)
    return system


def begun(subject: Subject, recording: Recording | None, budget: int) -> History:
    """Return the history of a system, with what a recording says that has been."""
    from callgate.tools.debugger.history import History

    history = History(subject, budget)
    if recording is not None:
        at_end = recording.of_calls and not recording.from_start
        history.expect(recording.occurred, recording.last, recording.registers, open_at_end=at_end)
        if recording.end is None:
            print(f"callgate: {recording.path}: was cut off; it is known up to {recording.last}", file=sys.stderr)
    return history


def recording_of(files: Sequence[Path]) -> Recording | None:
    """Return the recording that the first file is, or that of its case, None if it is an image; RecordingError."""
    from callgate.tools.recording import read_recording

    if not files:
        return None
    if is_a_case(files[0]):
        return case_run(files[0])
    named = files[0].suffix == RECORDING and files[0].is_file()
    return read_recording(files[0]) if named or is_a_recording(files[0]) else None


def launched(
    files: Sequence[Path],
    budget: int,
    unplug: Sequence[tuple[int, int]],
    machine: Machine,
    arguments: Arguments,
    output: Callable[[bytes], None],
) -> tuple[Subject, History]:
    """Return a system and its history from the arguments of an editor's `launch`; RequestError.

    `files` are used if the editor names nothing; the other arguments before its own are the command line's.
    """
    from callgate.disk.media import ImageError
    from callgate.tools.debugger.dap.protocol import RequestError
    from callgate.tools.recording import RecordingError

    program = arguments.text("program", "")
    images = [
        *([Path(program)] if program else files[:1]),
        *([Path(name) for name in arguments.texts("images")] or files[1:]),
    ]
    commands = arguments.texts("commands")
    try:
        recording = recording_of(images)
        if recording is not None and commands:
            raise RequestError("commands: a recording has its own; type more in the console: type LINE")
        system = recorded(recording, images[1:]) if recording is not None else made(images, commands, unplug, machine)
        system.machine.serial.output = output
        return system, begun(system, recording, budget)
    except (ImageError, RecordingError, click.UsageError) as error:
        raise RequestError(getattr(error, "message", str(error))) from None
