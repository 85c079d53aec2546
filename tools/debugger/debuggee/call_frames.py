"""The call frame information of an ELF file, decoded: the rules that `frames` follows.

A file of its own, for pyelftools is a tenth of what a debugger imports, and is wanted when a stack is first looked at.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Any

from elftools.dwarf.callframe import CIE, FDE, CallFrameInfo
from elftools.dwarf.constants import DW_CFA
from elftools.elf.elffile import ELFFile


class _Frames(CallFrameInfo):  # type: ignore[misc]  # the package has types, of which mypy is told to know none
    """Call frame information as pyelftools (0.33) does not read it.

    It refuses the augmentation S alone, which has no data. It multiplies the offset of DW_CFA_def_cfa_sf by the code
    alignment factor, where DWARF 4, 6.4.2.2 has the data alignment factor: here the offset comes multiplied.
    """

    def get_entries(self) -> list[Any]:
        """Return the entries."""
        entries: list[Any] = super().get_entries()
        for entry in entries:
            if isinstance(entry, CIE | FDE):
                common = entry.header if isinstance(entry, CIE) else entry.cie.header
                for instruction in entry.instructions:
                    if instruction.opcode == DW_CFA.def_cfa_sf:
                        instruction.opcode = DW_CFA.def_cfa
                        instruction.args[1] *= common["data_alignment_factor"]
        return entries

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
