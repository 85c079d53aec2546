"""Assembled units on disk, so that the second start needs neither Keystone nor Capstone.

An entry is named by the SHA-256 of all that is known beforehand: the paths, the options, the ABI's
constants, the assembler itself, and the current directory if a path is relative.  It lists the files that it was made
of, with their SHA-256, and the places where a file was looked for in vain; it is valid only while all of that is
unchanged. A damaged entry is assembled anew, and without a directory that can be written to there is no cache.

A file with debug information takes much longer to write than to read: it is kept too, named by the entry that it was
made of and what it says besides.

After its checksum an entry has three lines of JSON (the files; the unit; what only debuggers ask for, read when they
do) and the ELF file of the unit, so that a boot need not write the one it loads.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from callgate.asm.assembler import Program, assemble_with_sources
from callgate.asm.assembler.output.record import FOR_DEBUGGERS, describe, restore
from callgate.kernel.common.checked_files import checksum, read_checked, write_checked

if TYPE_CHECKING:
    from callgate.asm.assembler.output.debug.dwarf import Debugging

FORMAT = 4
ASSEMBLER = str(Path(__file__).parent)
ABI = str(Path(__file__).parents[2] / "kernel" / "abi")
PARTS = 4  # of an entry

T = TypeVar("T")


def cache_directory() -> Path:
    """Return $XDG_CACHE_HOME/callgate, by default ~/.cache/callgate; RuntimeError without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "callgate"


def assemble_cached(path: Path | str | Sequence[Path | str], **options: Any) -> Program:
    """Do what `assemble` does, or take the result of an earlier call."""
    return _cached(path, options, program_of, lambda program: program)


def elf_cached(path: Path | str | Sequence[Path | str], **options: Any) -> bytes:
    """Return the ELF file of what `assemble_cached` returns: no debug information, and the names of labels."""
    return _cached(path, options, lambda parts: parts[-1], loadable)


def debug_elf_cached(
    path: Path | str | Sequence[Path | str], debugging: Debugging, types: str, **options: Any
) -> bytes:
    """Return the ELF file with debug information of what `assemble_cached` returns; sections at linear addresses.

    `types` stands for the types of `debugging`: it must be another text whenever they are others.
    """

    def kept(parts: list[bytes]) -> tuple[bytes, Callable[[], Program]]:
        return checksum(b"\n".join(parts)), lambda: program_of(parts)

    of_unit, program = _cached(path, options, kept, lambda program: (b"", lambda: program))
    key = json.dumps([FORMAT, of_unit.decode(), own_digest(), debugging.root, debugging.directory, types])
    if not of_unit:  # there is no entry yet, or none can be kept
        return program().elf(debug=debugging, whole=False)
    entry = cache_directory() / f"debug-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    found = None
    with suppress(OSError):
        found = read_checked(entry)
    if found is None:
        found = program().elf(debug=debugging, whole=False)
        write_checked(entry, found)
    return found


def loadable(program: Program) -> bytes:
    """Return an ELF file to be loaded, with the names of labels: faults are reported by them."""
    return program.elf(debug=False, labels=True)


def _cached(
    path: Path | str | Sequence[Path | str],
    options: dict[str, Any],
    kept: Callable[[list[bytes]], T],
    made: Callable[[Program], T],
) -> T:
    """Return what is `kept` in an entry, or `made` of a program that is assembled."""
    paths = [Path(item) for item in ([path] if isinstance(path, Path | str) else path)]
    try:
        entry = cache_directory() / f"unit-{digest(paths, options)}"
    except RuntimeError:
        return made(assemble_with_sources(paths, **options)[0])
    found = load(entry, kept)
    if found is not None:
        return found
    program, sources = assemble_with_sources(paths, **options)
    store(entry, program, sources.digests, sources.missing)
    return made(program)


def digest(paths: Sequence[Path], options: Mapping[str, Any]) -> str:
    """Return the name of an entry: files, options, ABI and assembler."""
    named = [str(path.absolute()) for path in paths]
    chosen = sorted((key, repr(value)) for key, value in options.items())
    relative = [path for path in [*paths, *map(Path, options.get("include_dirs", ()))] if not path.is_absolute()]
    text = json.dumps([FORMAT, str(Path.cwd()) if relative else "", named, chosen, own_digest()])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@cache
def own_digest() -> str:
    """Return a digest of the assembler's sources and of the ABI; RuntimeError without a home.

    It is kept for as long as these files are the same by name, size and times, which Python goes by as well for what
    it has compiled of them.
    """
    states = [
        (name, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        for folder in (ASSEMBLER, ABI)
        for name, state in modules(folder)
    ]
    known = hashlib.sha256(json.dumps([sys.version, states]).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    kept = cache_directory() / f"assembler-{known}"
    found = None
    with suppress(OSError):
        found = read_checked(kept)
    if found is None:
        found = content_digest()
        write_checked(kept, found)
    return found.decode("ascii", "replace")


def content_digest() -> bytes:
    """Return the digits of a digest of the assembler's sources, and of the ABI's constants."""
    from callgate.kernel.abi import constants

    state = hashlib.sha256(json.dumps(sorted(constants().items())).encode())
    for name, _ in modules(ASSEMBLER):
        state.update(content_of(name))
    return state.hexdigest().encode()


def modules(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the path and state of each Python source in a folder and those in it, in the order of their names."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir() and entry.name != "__pycache__":
            yield from modules(entry.path)
        elif entry.name.endswith(".py"):
            yield entry.path, entry.stat()


def content_of(name: str) -> bytes:
    """Return the content of a file.  A start reads two hundred: without a buffer and a `Path`, in half the time."""
    with open(name, "rb", buffering=0) as file:  # noqa: PTH123
        return file.readall()


def unchanged(digests: Mapping[str, str], missing: Sequence[str]) -> bool:
    """Whether an entry's files are as they were, and none has appeared where one was looked for."""
    for name, wanted in digests.items():
        if hashlib.sha256(content_of(name)).hexdigest() != wanted:
            return False
    return not any(map(os.path.exists, missing))


def load(path: Path, kept: Callable[[list[bytes]], T]) -> T | None:
    """Return what is kept in an entry; None if there is none, it is damaged, or a source has changed."""
    try:
        body = read_checked(path)
        if body is None:
            return None
        parts = body.split(b"\n", PARTS - 1)
        files = json.loads(parts[0])
        return kept(parts) if unchanged(files["digests"], files["missing"]) else None
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def program_of(parts: list[bytes]) -> Program:
    """Return the program of an entry."""
    unit = json.loads(parts[1])
    contents = {name: b64decode(text) for name, text in unit["contents"].items()}
    return restore(Program, unit["program"], contents, lambda: json.loads(parts[2]))


def store(path: Path, program: Program, digests: Mapping[str, str], missing: set[str]) -> None:
    """Write an entry in one step; failing to is not an error."""
    contents = {section.name: b64encode(section.data).decode() for section in program.sections}
    unit = describe(program)
    debugging = {key: unit.pop(key) for key in FOR_DEBUGGERS}
    files = {"digests": dict(digests), "missing": sorted(missing)}
    parts = (files, {"contents": contents, "program": unit}, debugging)
    lines = [json.dumps(part, separators=(",", ":")).encode("ascii") for part in parts]
    write_checked(path, b"\n".join([*lines, loadable(program)]))
