"""Recordings of tests that failed: from power-on to where the machine stood when the test did (`--asm-record`).

The system of `booted` has booted once and is restored for each test.  A run that boots in the same way and is given
the same is the same run, so a recording begins with the boot and needs nothing of the tests before.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Final

from callgate.disk.media import ImageError
from callgate.kernel.core.errors import KernelPanic
from callgate.kernel.machine.observation.position import Position
from callgate.kernel.system import System
from callgate.tools.asmtest.booted import BootedSystem
from callgate.tools.recording import RecordingError, Repetition, RunDiffers, read_recording, written

SUFFIX: Final = ".cgr"
LONGEST: Final = 100  # characters of a name


def record(booted: BootedSystem, folder: Path, test: str, here: Path) -> list[str]:
    """Write a recording of a test, by its id; return the command that opens it from `here`, or why there is none.

    The run is made once more before that: a recording that another machine could not repeat is not kept.
    """
    file = folder / file_name(test)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        text = written(booted.system, booted.began_with, booted.occurred)
        folder.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        verify(part)
        part.replace(file)
    except RunDiffers as error:
        return [
            f"none: {error}",
            "the test has changed the system in a way that a recording does not know: registers or policy, from Python",
        ]
    except (ValueError, ImageError, RecordingError) as error:
        return [f"none: {error}"]
    except OSError as error:
        return [f"none: {error.filename or file}: {error.strerror}"]
    finally:
        with suppress(OSError):  # it is gone, or never was
            part.unlink()
    return [command(file, here)]


def command(file: Path, here: Path) -> str:
    """Return the command that opens a recording where the test failed."""
    shown = file.relative_to(here) if file.is_relative_to(here) else file
    return f'callgate debug {shlex.quote(str(shown))} -e "goto end"'


def file_name(test: str) -> str:
    """Return the name of a test's file: its id, in characters that every file system and shell takes."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", test.replace("::", "-")).strip("-.")
    if name != test.replace("::", "-") or len(name) > LONGEST:
        name = f"{name[-LONGEST:].lstrip('-.')}-{hashlib.sha256(test.encode()).hexdigest()[:8]}"
    return name + SUFFIX


def verify(path: Path) -> None:
    """Repeat a recording; RunDiffers if it does not come to the same registers at its end."""
    recording = read_recording(path)
    assert recording.end is not None
    with recording.system() as system:
        repetition = Repetition(system)
        for entry in recording.occurred:
            run_to(system, entry.position)
            repetition.apply(entry.what)
        run_to(system, recording.end)
        if system.machine.cpu.registers() != recording.registers:
            raise RunDiffers(f"a repetition comes to {recording.end} with other registers")


def run_to(system: System, goal: Position) -> None:
    """Run up to a position; RunDiffers if the run does not pass it, KeyboardInterrupt at Ctrl-C."""
    machine = system.machine
    machine.runner.settle()
    while machine.position < goal:
        before = machine.position
        try:
            stop = machine.run(goal=goal)
        except KernelPanic:
            stop = None
        machine.runner.settle()
        if stop is not None and stop.reason == "interrupted":
            raise KeyboardInterrupt
        if machine.position == before:
            break
    if machine.position != goal:
        raise RunDiffers(f"a repetition was to come to {goal} and is at {machine.position}")
