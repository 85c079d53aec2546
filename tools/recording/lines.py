"""The lines of a recording: JSON objects, one for each thing that came from outside."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection
from typing import Any, Final
from zlib import compress, decompressobj
from zlib import error as zlib_error

from callgate.kernel.machine.cpu.setting import SETTABLE
from callgate.kernel.machine.memory.outside import (
    Break,
    EndProcess,
    Forgotten,
    HangUp,
    Input,
    Numbers,
    Outside,
    Plug,
    SetRegister,
    SetUp,
    Unplug,
    Write,
)
from callgate.kernel.machine.observation.position import Position
from callgate.tools.recording.changes import CONTROL, FLOATING, GENERAL, SEGMENTS, TABLES
from callgate.tools.recording.occurred import Occurred

LARGEST: Final = 64 << 20
"""Bytes of a machine's memory, and of a piece of it, in a recording of calls: a damaged file makes us take no more."""


def dump(entry: dict[str, Any]) -> str:
    """Return an object as a line."""
    return json.dumps(entry, ensure_ascii=True, separators=(",", ":")) + "\n"


def text_of(data: bytes) -> str:
    """Return bytes as text, one character for each byte."""
    return data.decode("latin-1")


def plain(entry: Occurred) -> dict[str, Any]:
    """Return what came from outside as an object."""
    return {"at": list(entry.position), **_what(entry.what)}


def _what(what: Outside) -> dict[str, Any]:
    match what:
        case Input(data):
            return {"input": text_of(data)}
        case Plug(disk, image):
            return {"plug": disk, "image": image}
        case Write(physical, data):
            return {"write": physical, "data": data.hex()}
        case SetRegister(name, value):
            return {"register": name, "value": value}
        case SetUp():
            return {"set_up": plain_set_up(what)}
        case _:
            return _short(what)


def _short(what: HangUp | Break | Unplug | EndProcess | Forgotten) -> dict[str, Any]:
    match what:
        case HangUp():
            return {"hang_up": True}
        case Break():
            return {"break": True}
        case Unplug(disk):
            return {"unplug": disk}
        case EndProcess(process):
            return {"end_process": process}
        case Forgotten(count):
            return {"forgotten": count}


def parsed(entry: dict[str, Any]) -> Occurred:
    """Return what an object of `plain` stands for; ValueError, KeyError or TypeError if it is none."""
    return Occurred(position_of(entry["at"]), _outside(entry))


def position_of(numbers: Any) -> Position:
    """Return a position; ValueError or TypeError if it is none."""
    position = Position(*numbers)
    if not all(type(number) is int and number >= 0 for number in position):
        raise ValueError("a position is three numbers")
    return position


def _outside(entry: dict[str, Any]) -> Outside:
    kind = next((name for name in READERS if name in entry), None)
    if kind is None:
        raise ValueError(f"none of {', '.join(READERS)}")
    return READERS[kind](entry)


def _register(entry: dict[str, Any]) -> SetRegister:
    if entry["register"] not in SETTABLE:
        raise ValueError("a register that can be changed by hand")
    return SetRegister(str(entry["register"]), int(entry["value"]))


def plain_set_up(what: SetUp) -> dict[str, Any]:
    """Return what Python has changed as an object; memory is compressed, since much of it is zeros."""
    return {
        "memory": [[physical, len(data), b64encode(compress(data)).decode()] for physical, data in what.memory],
        "registers": dict(what.registers),
        "segments": dict(what.segments),
        "control": dict(what.control),
        "tables": {name: list(table) for name, table in what.tables},
        "floating": {name: f"{value:x}" for name, value in what.floating},  # more than other readers of JSON can hold
    }


def set_up(entry: dict[str, Any]) -> SetUp:
    """Return what such an object stands for; ValueError, KeyError or TypeError if it is none."""
    return SetUp(
        tuple((int(physical), unpacked(text, int(size))) for physical, size, text in entry["memory"]),
        numbers(entry["registers"], GENERAL),
        numbers(entry["segments"], SEGMENTS),
        numbers(entry["control"], CONTROL),
        tuple((name, (int(base), int(limit))) for name, (base, limit) in known(entry["tables"], TABLES)),
        tuple((name, int(value, 16)) for name, value in known(entry["floating"], FLOATING)),
    )


def unpacked(text: str, size: int) -> bytes:
    """Return compressed bytes; ValueError if they are damaged, or not as many."""
    if not 0 <= size <= LARGEST:
        raise ValueError(f"{size} bytes in one piece")
    unpacker = decompressobj()
    try:
        data = unpacker.decompress(b64decode(text, validate=True), size or 1)  # 0 is no limit
    except zlib_error as problem:
        raise ValueError(f"memory is damaged: {problem}") from None
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes of {size}")
    return data


def known(entry: dict[str, Any], names: Collection[str]) -> list[tuple[str, Any]]:
    """Return the items of an object; ValueError for a name that is none of these."""
    unknown = entry.keys() - set(names)
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    return list(entry.items())


def numbers(entry: dict[str, Any], names: Collection[str]) -> Numbers:
    """Return numbers of 32 bits by name; ValueError or TypeError for others."""
    found = tuple(known(entry, names))
    if not all(type(value) is int and 0 <= value < 1 << 32 for _, value in found):
        raise ValueError("a number of 32 bits is expected")
    return found


READERS: Final[dict[str, Callable[[dict[str, Any]], Outside]]] = {
    "input": lambda entry: Input(entry["input"].encode("latin-1")),
    "hang_up": lambda _entry: HangUp(),
    "break": lambda _entry: Break(),
    "unplug": lambda entry: Unplug(int(entry["unplug"])),
    "plug": lambda entry: Plug(int(entry["plug"]), int(entry["image"])),
    "forgotten": lambda entry: Forgotten(int(entry["forgotten"])),
    "end_process": lambda entry: EndProcess(int(entry["end_process"])),
    "write": lambda entry: Write(int(entry["write"]), bytes.fromhex(entry["data"])),
    "register": _register,
    "set_up": lambda entry: set_up(entry["set_up"]),
}
"""What is made of an object that has such a key."""
