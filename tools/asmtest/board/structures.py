"""Structures in guest memory by field path: `free`, `ring[3]`, `slots[0].linear`."""

import ctypes
import re
from typing import Any

from callgate.asm.assembler.output.debug.declared import declared_structures
from callgate.kernel.abi import constants
from callgate.kernel.abi.layout import layouts
from callgate.kernel.common.near_miss import nearest

StructureType = type[ctypes.LittleEndianStructure]
__all__ = ["StructureError", "StructureType", "declared_structures", "get_field", "known_structures", "put_field"]
STEP = re.compile(r"\.?([A-Za-z_]\w*)|\[(\d+)\]")


class StructureError(ValueError):
    """A structure or field that does not exist; the message lists those that do."""


def known_structures() -> dict[str, StructureType]:
    """Return the ABI's structures by name."""
    constants()  # imports every module that declares one
    return dict(layouts())


def get_field(value: Any, path: str) -> int:
    """Return a number of a structure; StructureError if the path does not lead to one."""
    found = _follow(value, _steps(path), path)
    if not isinstance(found, int):
        raise StructureError(f"{path} is {len(found) if hasattr(found, '__len__') else 'several'} items, not a number")
    return found


def put_field(value: Any, path: str, number: int) -> None:
    """Change a number of a structure; StructureError if the path does not lead to one."""
    steps = _steps(path)
    get_field(value, path)
    holder = _follow(value, steps[:-1], path)
    if isinstance(steps[-1], int):
        holder[steps[-1]] = number
    else:
        setattr(holder, steps[-1], number)
    if get_field(value, path) != number and number >= 0:
        raise StructureError(f"{number:#x} does not fit into {path}")


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    end = 0
    for match in STEP.finditer(path):
        if match.start() != end:
            break
        end = match.end()
        steps.append(match[1] or int(match[2]))
    if end != len(path) or not steps:
        raise StructureError(f"{path!r} is not a field; write for instance free, ring[3] or slots[0].linear")
    return steps


def _follow(value: Any, steps: list[str | int], path: str) -> Any:
    for step in steps:
        if isinstance(step, int):
            if not isinstance(value, ctypes.Array) or step >= len(value):
                raise StructureError(f"{path}: there is no item [{step}]")
            value = value[step]
            continue
        names = [field[0] for field in getattr(type(value), "_fields_", ())]
        if step not in names:
            near = ", ".join(nearest(step, names, 2) or names[:8]) or "a number without fields"
            raise StructureError(f"{type(value).__name__} has no field {step}; there is {near}")
        value = getattr(value, step)
    return value
