"""Recordings of tests that failed: from power-on to where the machine stood when the test did (`--asm-record`).

The system of `booted` has booted once and is restored for each test.  A run that boots in the same way and is given
the same is the same run, so a recording begins with the boot and needs nothing of the tests before.

A recording of a test on the bare CPU begins with its first call, and ends before the instruction that faulted, or
before the last one of the last call.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callgate.disk.media import ImageError
from callgate.tools.asmtest.bare.logging_run import NotRepeatable, recording_of_calls
from callgate.tools.recording import (
    RecordingError,
    Repetition,
    RunDiffers,
    read_recording,
    run_to,
    written,
)

if TYPE_CHECKING:
    from callgate.tools.asmtest.bare.cpu import BareCpu
    from callgate.tools.asmtest.booted import BootedSystem

SUFFIX: Final = ".cgr"
LONGEST: Final = 100  # characters of a name


def record(booted: BootedSystem, folder: Path, test: str, here: Path) -> list[str]:
    """Write a recording of a test, by its id; return the command that opens it from `here`, or why there is none.

    The run is made once more before that: a recording that another machine could not repeat is not kept.
    """

    def make(part: Path) -> None:
        part.write_text(written(booted.system, booted.began_with, booted.occurred), encoding="utf-8")
        try:
            verify(part)
        except RunDiffers as error:
            why = "the test has changed the system in a way that a recording does not know: registers or policy, from"
            raise NotRepeatable(f"{error}\n{why} Python") from None

    file, problem = keep(folder, test, make)
    return [problem] if problem else [command(file, here, "goto end")]


def record_calls(cpu: BareCpu, folder: Path, test: str, here: Path) -> list[str]:
    """Write a recording of a test's calls on the bare CPU; return the command that opens it, or why there is none.

    Nothing is returned for a test that has called nothing.  The test's operations are repeated for it, and then once
    more from the recording.
    """
    if not any(step[0] == cpu.run_routine for step in cpu.journal):
        return []

    def make(part: Path) -> None:
        part.write_text(recording_of_calls(cpu, test), encoding="utf-8")

    file, problem = keep(folder, test, make)
    return [problem] if problem else [command(file, here)]


def keep(folder: Path, test: str, make: Callable[[Path], None]) -> tuple[Path, str]:
    """Let `make` write a file beside the place of a test's recording and put it there; return it, and any problem."""
    file = folder / file_name(test)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        make(part)
        part.replace(file)
    except (ValueError, ImageError, RecordingError, RunDiffers, NotRepeatable) as error:
        return file, f"none: {error}"
    except OSError as error:
        return file, f"none: {error.filename or file}: {error.strerror}"
    finally:
        with suppress(OSError):  # it is gone, or never was
            part.unlink()
    return file, ""


def command(file: Path, here: Path, first: str = "") -> str:
    """Return the command that opens a recording where the test failed; `first` is what leads there."""
    shown = file.relative_to(here) if file.is_relative_to(here) else file
    return f"callgate debug {shlex.quote(str(shown))}" + (f' -e "{first}"' if first else "")


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
            run_to(system.machine, entry.position)
            repetition.apply(entry.what)
        run_to(system.machine, recording.end)
        if system.machine.cpu.registers() != recording.registers:
            raise RunDiffers(f"a repetition comes to {recording.end} with other registers")
