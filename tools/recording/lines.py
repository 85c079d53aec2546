"""The lines of a recording: JSON objects, one for each thing that came from outside."""

from __future__ import annotations

import json
from typing import Any

from callgate.kernel.machine.cpu.setting import SETTABLE
from callgate.kernel.machine.memory.outside import (
    Break,
    EndProcess,
    Forgotten,
    HangUp,
    Input,
    Outside,
    Plug,
    SetRegister,
    Unplug,
    Write,
)
from callgate.kernel.machine.observation.position import Position
from callgate.tools.recording.occurred import Occurred


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
        case HangUp():
            return {"hang_up": True}
        case Break():
            return {"break": True}
        case Unplug(disk):
            return {"unplug": disk}
        case Plug(disk, image):
            return {"plug": disk, "image": image}
        case Write(physical, data):
            return {"write": physical, "data": data.hex()}
        case SetRegister(name, value):
            return {"register": name, "value": value}
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
    if "input" in entry:
        return Input(entry["input"].encode("latin-1"))
    if "hang_up" in entry:
        return HangUp()
    if "break" in entry:
        return Break()
    if "unplug" in entry:
        return Unplug(int(entry["unplug"]))
    if "plug" in entry:
        return Plug(int(entry["plug"]), int(entry["image"]))
    if "forgotten" in entry:
        return Forgotten(int(entry["forgotten"]))
    if "end_process" in entry:
        return EndProcess(int(entry["end_process"]))
    if "write" in entry:
        return Write(int(entry["write"]), bytes.fromhex(entry["data"]))
    if entry["register"] not in SETTABLE:
        raise ValueError("a register that can be changed by hand")
    return SetRegister(str(entry["register"]), int(entry["value"]))
