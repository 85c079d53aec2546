"""Files that options name to be written: never over a file that callgate has not written itself.

An existing file is opened without being emptied, checked, and only then emptied: it must not be an image of the run,
and it must be empty or begin as an earlier report of callgate does. Devices other than disks, pipes and `-`, standard
output, take any report.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TextIO

import click
from callgate.disk.media.medium import Image

STANDARD_OUTPUT: Final = "-"
STANDARD_OUTPUT_NAME: Final = "standard output"
HEAD: Final = 4096
LEDGER_LIMIT: Final = 16 << 20  # bytes; no ledger is larger
LEDGER_KEY: Final = "guest_instructions"
TEXT: Final = re.compile(rb"[\t\n\r\f\x20-\x7e\x80-\xff]*\n")  # lines without control characters
SYMBOL: Final = re.compile(rb"[0-9a-f]{8} [A-Za-z] \S+")

Recognise = Callable[[bytes], bool]


class OutputRefused(Exception):
    """A file that is not written to: the option that names it, the reason, and the remedy."""


class Report:
    """Text that an option has written to a file, or to standard output."""

    def __init__(self, option: str, path: Path, recognise: Recognise, what: str) -> None:
        """Open `path` as it is; OutputRefused, or OSError.

        `recognise` says from a file's first bytes whether it is an earlier report, `what` is its name in messages.
        """
        self.option, self.path = option, path
        self.recognise, self.what = recognise, what
        self.standard = str(path) == STANDARD_OUTPUT
        self.fresh = False  # made by us, and not yet written to
        self.file: TextIO = sys.stdout if self.standard else self._open()

    @property
    def name(self) -> str:
        """Its name in messages."""
        return STANDARD_OUTPUT_NAME if self.standard else str(self.path)

    def _open(self) -> TextIO:
        try:
            mode = self.path.stat().st_mode
        except FileNotFoundError:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        else:
            if stat.S_ISBLK(mode):
                raise self._refusal("is a disk")
            flags = os.O_RDWR if stat.S_ISREG(mode) else os.O_WRONLY
        try:
            fd = os.open(self.path, flags | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            raise self._refusal("is a symbolic link to nothing") from None
        self.fresh = bool(flags & os.O_CREAT)
        return os.fdopen(fd, "w", encoding="utf-8")

    def _refusal(self, reason: str) -> OutputRefused:
        return OutputRefused(f"{self.option} {self.path}: {reason}; name another file")

    @property
    def _regular(self) -> bool:
        return not self.standard and stat.S_ISREG(os.fstat(self.file.fileno()).st_mode)

    def check(self, images: Sequence[Image], others: Sequence[Report] = ()) -> None:
        """OutputRefused if the file is one of `images` or of `others`, or holds data that callgate has not written."""
        if not self._regular:
            return
        fd = self.file.fileno()
        for image in images:
            if any(os.path.samestat(os.fstat(fd), file) for file in image.host_files):
                raise self._refusal(
                    f"is the image {image.path}" if image.path != self.path else "is an image of this run"
                )
        for other in others:
            if not other.standard and os.path.sameopenfile(fd, other.file.fileno()):
                raise self._refusal(f"is also the file of {other.option}")
        size = os.fstat(fd).st_size
        if size and not self.recognise(os.pread(fd, min(size, LEDGER_LIMIT), 0)):
            raise OutputRefused(
                f"{self.option} {self.path}: already exists, and is not a {self.what}; name another file, or remove it"
            )

    def begin(self) -> None:
        """Empty the file after the checks."""
        self.fresh = False
        if self._regular:
            os.ftruncate(self.file.fileno(), 0)

    def write(self, data: bytes) -> None:
        """Write bytes after what has been written; OSError."""
        self.file.flush()
        written = self.file.buffer.write(data)
        self.file.flush()
        assert written == len(data)

    def close(self) -> None:
        """Close the file; standard output is left to the process.  OSError if buffered data cannot be written.

        A file that was made for a report that was refused is removed.
        """
        if self.standard:
            self.file.flush()
        else:
            self.file.close()
        if self.fresh:
            self.path.unlink()


def is_report(head: bytes) -> bool:
    """Whether a file that begins with `head` is a trace or a ledger."""
    from callgate.tools.session.trace import is_trace

    return is_trace(head[:HEAD]) or is_ledger(head)


def is_ledger(content: bytes) -> bool:
    """Whether `content` is a report of `--stats`."""
    if not content.startswith(b"{"):
        return False
    try:
        ledger = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(ledger, dict) and LEDGER_KEY in ledger


def is_elf(head: bytes) -> bool:
    """Whether a file that begins with `head` is an ELF file."""
    return head.startswith(b"\x7fELF")


def may_be_flat(head: bytes) -> bool:
    """Whether a file that begins with `head` may be a flat binary, which may look like all but text and programs."""
    return not is_elf(head) and not TEXT.fullmatch(head)


def is_symbol_file(head: bytes) -> bool:
    """Whether a file that begins with `head` holds symbols as nm prints them."""
    return SYMBOL.fullmatch(head.partition(b"\n")[0]) is not None


def refuse_foreign(path: Path, recognise: Recognise, what: str) -> None:
    """click.UsageError if there is a file at `path` that is not empty and not an earlier one of its kind, or a disk.

    Errors of reading it are left to the code that opens it.
    """
    if str(path) == STANDARD_OUTPUT:
        return
    try:
        mode = path.stat().st_mode
        if stat.S_ISBLK(mode):
            raise click.UsageError(f"{path} is a disk; name a file")
        if not stat.S_ISREG(mode):
            return
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return
    if head and not recognise(head):
        raise click.UsageError(f"{path} already exists, and is not a {what}; give another name, or remove it")
