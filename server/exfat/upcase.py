"""The up-case table: which characters are the same in names (7.2)."""

from typing import Any, Final

from callgate.server.exfat.structures import UP_CASE_LIMIT

UNITS: Final = 0x1_0000
MANDATORY: Final = 128  # the first entries are the same on every volume (7.2.5.1)
_SKIP: Final = 0xFFFF  # the next number says how many units stand for themselves (7.2.5)


class UpCase:
    """A table of all UTF-16 units; immutable, so that snapshots may share it."""

    def __init__(self, units: list[int]) -> None:
        self._table = {unit: upper for unit, upper in enumerate(units) if unit != upper}

    def __deepcopy__(self, memo: dict[int, Any]) -> "UpCase":
        return self

    def fold(self, name: str) -> tuple[int, ...]:
        """Return the key of a name: equal for two names of the same file."""
        return self.fold_units(units_of(name))

    def fold_units(self, units: list[int]) -> tuple[int, ...]:
        """Return the key of a name in UTF-16 units."""
        return tuple(self._table.get(unit, unit) for unit in units)


def units_of(name: str) -> list[int]:
    """Return the UTF-16 units of a name."""
    raw = name.encode("utf-16-le", "surrogatepass")
    return [raw[at] | raw[at + 1] << 8 for at in range(0, len(raw), 2)]


def mandatory() -> UpCase:
    """Return the table that only knows the letters of ASCII."""
    return UpCase([unit - 32 if 97 <= unit <= 122 else unit for unit in range(UNITS)])


def parse_up_case(data: bytes) -> UpCase:
    """Return the table; ValueError says what is wrong with it."""
    if len(data) % 2 or not data or len(data) > UP_CASE_LIMIT:
        raise ValueError(f"it has {len(data)} bytes")
    units: list[int] = []
    numbers = iter(data[at] | data[at + 1] << 8 for at in range(0, len(data), 2))
    for number in numbers:
        if number == _SKIP and len(units) < UNITS - 1:
            count = next(numbers, None)
            if count is None:
                raise ValueError("it ends within a run")
            units.extend(range(len(units), len(units) + count))
        else:
            units.append(number)
        if len(units) > UNITS:
            raise ValueError(f"it has more than {UNITS} entries")
    units.extend(range(len(units), UNITS))
    if any(units[unit] != (unit - 32 if 97 <= unit <= 122 else unit) for unit in range(MANDATORY)):
        raise ValueError(f"its first {MANDATORY} entries are not those of every volume")
    return UpCase(units)


def table_checksum(data: bytes) -> int:
    """Return the checksum of an up-case table (7.2.2, Figure 3)."""
    value = 0
    for byte in data:
        value = ((value << 31 | value >> 1) & 0xFFFF_FFFF) + byte & 0xFFFF_FFFF
    return value
