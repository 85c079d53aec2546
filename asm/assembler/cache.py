"""Assembled units on disk, so that the second start needs neither Keystone nor Capstone.

An entry is named by the SHA-256 of all that is known beforehand: the paths, the options, the ABI's
constants, the assembler itself, and the current directory if a path is relative.  It lists the files that it was made
of, with their SHA-256, and the places where a file was looked for in vain; it is valid only while all of that is
unchanged. It is a checksum and two lines of JSON, the second of which is read when a debugger asks: a damaged entry is
assembled anew, and without a directory that can be written to there is no cache.
"""

import hashlib
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from callgate.asm.assembler import Program, assemble_with_sources
from callgate.asm.assembler.output.record import FOR_DEBUGGERS, describe, restore
from callgate.kernel.common.checked_files import read_checked, write_checked

FORMAT = 4


def cache_directory() -> Path:
    """Return $XDG_CACHE_HOME/callgate, by default ~/.cache/callgate; RuntimeError without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "callgate"


def assemble_cached(path: Path | str | Sequence[Path | str], **options: Any) -> Program:
    """Do what `assemble` does, or take the result of an earlier call."""
    paths = [Path(item) for item in ([path] if isinstance(path, Path | str) else path)]
    try:
        entry = cache_directory() / f"unit-{digest(paths, options)}.json"
    except RuntimeError:
        return assemble_with_sources(paths, **options)[0]
    program = load(entry)
    if program is None:
        program, sources = assemble_with_sources(paths, **options)
        store(entry, program, sources.digests, sources.missing)
    return program


def digest(paths: Sequence[Path], options: Mapping[str, Any]) -> str:
    """Return the name of an entry: files, options, ABI and assembler."""
    named = [str(path.absolute()) for path in paths]
    chosen = sorted((key, repr(value)) for key, value in options.items())
    relative = [path for path in [*paths, *map(Path, options.get("include_dirs", ()))] if not path.is_absolute()]
    text = json.dumps([FORMAT, str(Path.cwd()) if relative else "", named, chosen, own_digest()])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@cache
def own_digest() -> str:
    """Return a digest of the assembler's sources and of the ABI."""
    from callgate.kernel.abi import constants

    state = hashlib.sha256(json.dumps(sorted(constants().items())).encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        state.update(source.read_bytes())
    return state.hexdigest()


def unchanged(digests: Mapping[str, str], missing: Sequence[str]) -> bool:
    """Whether an entry's files are as they were, and none has appeared where one was looked for."""
    for name, wanted in digests.items():
        if hashlib.sha256(Path(name).read_bytes()).hexdigest() != wanted:
            return False
    return not any(Path(name).exists() for name in missing)


def load(path: Path) -> Program | None:
    """Return the program of an entry; None if there is none, it is damaged, or a source has changed."""
    try:
        body = read_checked(path)
        if body is None:
            return None
        first, _, second = body.partition(b"\n")
        data = json.loads(first)
        if not unchanged(data["digests"], data["missing"]):
            return None
        contents = {name: b64decode(text) for name, text in data["contents"].items()}
        return restore(Program, data["program"], contents, lambda: json.loads(second))
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def store(path: Path, program: Program, digests: Mapping[str, str], missing: set[str]) -> None:
    """Write an entry in one step; failing to is not an error."""
    contents = {section.name: b64encode(section.data).decode() for section in program.sections}
    described = describe(program)
    second = {key: described.pop(key) for key in FOR_DEBUGGERS}
    first = {
        "digests": dict(digests),
        "missing": sorted(missing),
        "contents": contents,
        "program": described,
    }
    body = "\n".join(json.dumps(part, separators=(",", ":")) for part in (first, second)).encode("ascii")
    write_checked(path, body)
