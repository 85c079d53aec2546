"""Segment and gate descriptors (Intel SDM vol. 3, 3.4.5, 3.5 and 6.8.3), and the tables that hold them."""

from typing import Final, NamedTuple

PRESENT: Final = 0x80
CODE_DATA: Final = 0x10
TYPE_TSS: Final = 0x09
TYPE_TSS_BUSY: Final = 0x0B
TYPE_LDT: Final = 0x02
TYPE_CALL_GATE: Final = 0x0C
TYPE_INTERRUPT_GATE: Final = 0x0E
TYPE_TRAP_GATE: Final = 0x0F
TYPE_DATA_WRITABLE: Final = 0x12
TYPE_CODE_READABLE: Final = 0x1A
ACCESSED: Final = 0x01


class Segment(NamedTuple):
    """A segment descriptor: base, limit in bytes, type (5 bits, S included), DPL, default size 32."""

    base: int
    limit: int
    type: int
    dpl: int = 0
    present: bool = True
    big: bool = True

    @property
    def code(self) -> bool:
        """Whether this is a code segment."""
        return self.type & (CODE_DATA | 8) == CODE_DATA | 8

    @property
    def conforming(self) -> bool:
        """Whether this is a conforming code segment."""
        return self.code and bool(self.type & 4)

    @property
    def writable_data(self) -> bool:
        """Whether this is a writable data segment."""
        return self.type & (CODE_DATA | 8 | 2) == CODE_DATA | 2

    def encode(self) -> int:
        """Return the 64-bit descriptor."""
        limit, granular = self.limit, 0
        if limit > 0xF_FFFF:
            limit, granular = limit >> 12, 0x80_0000
        low = (self.base & 0xFFFF) << 16 | limit & 0xFFFF
        high = self.base & 0xFF00_0000 | self.base >> 16 & 0xFF | limit & 0xF_0000 | granular
        high |= self.type << 8 | self.dpl << 13 | (PRESENT << 8 if self.present else 0)
        if self.big and self.type & CODE_DATA:
            high |= 0x40_0000
        return high << 32 | low


class Gate(NamedTuple):
    """A call, interrupt or trap gate: target selector and offset, DPL, dwords that a call gate copies."""

    selector: int
    offset: int
    type: int
    dpl: int = 0
    present: bool = True
    parameters: int = 0

    def encode(self) -> int:
        """Return the 64-bit descriptor."""
        low = self.selector << 16 | self.offset & 0xFFFF
        high = self.offset & 0xFFFF_0000 | self.type << 8 | self.dpl << 13 | self.parameters
        return (high | (PRESENT << 8 if self.present else 0)) << 32 | low


def decode_segment(raw: int) -> Segment:
    """Return the segment that a 64-bit descriptor describes."""
    low, high = raw & 0xFFFF_FFFF, raw >> 32
    limit = low & 0xFFFF | high & 0xF_0000
    if high & 0x80_0000:
        limit = limit << 12 | 0xFFF
    base = low >> 16 | (high & 0xFF) << 16 | high & 0xFF00_0000
    return Segment(base, limit, high >> 8 & 0x1F, high >> 13 & 3, bool(high & 0x8000), bool(high & 0x40_0000))


def decode_gate(raw: int) -> Gate:
    """Return the gate that a 64-bit descriptor describes."""
    low, high = raw & 0xFFFF_FFFF, raw >> 32
    offset = low & 0xFFFF | high & 0xFFFF_0000
    return Gate(low >> 16, offset, high >> 8 & 0x1F, high >> 13 & 3, bool(high & 0x8000), high & 0x1F)
