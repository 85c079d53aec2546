"""The call frame information of an ELF file, decoded: the rules that `frames` follows.

A file of its own, for pyelftools is a tenth of what a debugger imports, and is wanted when a stack is first looked at.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Any

from elftools.dwarf.callframe import FDE, CallFrameInfo
from elftools.elf.elffile import ELFFile


class _Frames(CallFrameInfo):  # type: ignore[misc]  # the package has types, of which mypy is told to know none
    """Call frame information with the augmentation S alone, which pyelftools refuses: it has no data."""

    def _parse_cie_augmentation(self, header: Any, structs: Any) -> Any:
        plain = header.get("augmentation") == b"S"
        return (b"", {}) if plain else super()._parse_cie_augmentation(header, structs)


@cache
def table(file: bytes) -> tuple[list[int], list[tuple[int, bool, dict[Any, Any]]]]:
    """Return the rules in an ELF file: the addresses from which each holds, and (end, interrupted, rules)."""
    information = ELFFile(BytesIO(file)).get_dwarf_info()
    section = information.debug_frame_sec
    found = []
    for entry in _Frames(section.stream, section.size, section.address, information.structs).get_entries():
        if isinstance(entry, FDE):
            rows = entry.get_decoded().table
            end = entry["initial_location"] + entry["address_range"]
            signal = entry.cie["augmentation"] == b"S"
            for row, after in zip(rows, [*rows[1:], {"pc": end}], strict=True):
                found.append((row["pc"], (after["pc"], signal, row)))
    found.sort(key=lambda item: item[0])
    return [at for at, _ in found], [rules for _, rules in found]
