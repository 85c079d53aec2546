"""The translations of one block for different flags of the engine, with the engine replaced."""

import ctypes
from types import SimpleNamespace

from callgate.kernel.machine.blocks.translated import Translated
from callgate.kernel.machine.blocks.variants import MOST_BLOCKS, MOST_FLAGS, ROOM, Variants
from callgate.kernel.machine.engine.new_engine import TCG_BUFFER
from unicorn import UC_ERR_FETCH_UNMAPPED, UcError

BLOCK, OTHER = 0xC010_0000, 0xC010_0010
AC, ADDSEG, CLASS, RING_3 = 1 << 18, 1 << 6, 1 << 27, 3
TF, AFTER_STI, TS = 1 << 8, 1 << 3, 1 << 11
BUFFER = 0x7F00_0000_0000


def block(code=BUFFER, *, instructions=2, limit=0, pages=(7,)):
    return Translated(instructions, CLASS, limit, once=False, code=code, length=0x200, word=0, pages=pages)


class Rig:
    def __init__(self, *, mapped: bool = True) -> None:
        self.flags, self.eflags = ctypes.c_uint32(CLASS | 0x10), ctypes.c_uint32(0x246)
        self.made: list[tuple[int, int, int]] = []
        self.mapped = mapped
        self.kept = ctypes.c_uint64(0x1234), ctypes.c_int32(-1)
        engine = SimpleNamespace(ctl_request_cache=self.translate, ctl_remove_cache=self.remove)
        self.variants = Variants(engine, self.flags, self.eflags, self.kept)

    def remove(self, first: int, end: int) -> None:
        assert (first, end) == (BLOCK, BLOCK + 1)
        self.translate(first)

    def translate(self, address: int) -> None:
        self.kept[0].value, self.kept[1].value = address, 14
        self.made.append((address, self.flags.value, self.eflags.value))
        if not self.mapped:
            raise UcError(UC_ERR_FETCH_UNMAPPED)


def test_a_block_is_translated_for_all_flags_with_which_it_is_as_long_but_those_that_come_next() -> None:
    rig = Rig()
    for flags in (CLASS, *(CLASS | other for other in (ADDSEG, AC, RING_3, TF, AFTER_STI, TS))):
        rig.variants.note(BLOCK, flags)
    rig.variants.note(OTHER, CLASS | 0x10)
    rig.variants.translate(BLOCK, CLASS)
    assert rig.made == [(BLOCK, CLASS | ADDSEG, 0x246), (BLOCK, CLASS, 0x246 | AC)]
    assert (rig.flags.value, rig.eflags.value) == (CLASS | 0x10, 0x246)


def test_the_flags_and_cr2_are_put_back_when_the_block_is_no_longer_mapped() -> None:
    rig = Rig(mapped=False)
    rig.variants.note(BLOCK, CLASS | AC)
    rig.variants.translate(BLOCK, CLASS)
    rig.variants.drop(BLOCK)
    assert len(rig.made) == 2
    assert (rig.flags.value, rig.eflags.value) == (CLASS | 0x10, 0x246)
    assert [value.value for value in rig.kept] == [0x1234, -1]


def test_a_bounded_number_of_blocks_and_of_variants_is_known() -> None:
    rig = Rig()
    for number in range(MOST_FLAGS + 2):
        rig.variants.note(BLOCK, CLASS | number)
    assert rig.variants.known[BLOCK] == {CLASS | MOST_FLAGS, CLASS | MOST_FLAGS + 1}
    for number in range(MOST_BLOCKS):
        rig.variants.note(OTHER + number, CLASS)
    assert len(rig.variants.known) <= MOST_BLOCKS
    rig.variants.forget()
    assert rig.variants.known == {}


def test_a_block_in_two_pages_or_one_that_the_engine_may_have_cut_is_not_alike() -> None:
    variants = Rig().variants
    assert variants.alike(b"\x90" * 63, block(instructions=63))
    assert not variants.alike(b"\x90" * 64, block(instructions=64))
    assert variants.alike(b"\x60" * 7, block(instructions=7))
    assert not variants.alike(b"\x60" * 8, block(instructions=8))
    assert variants.alike(b"\x90" * 55 + b"\x61", block(instructions=56))
    assert not variants.alike(b"\x90" * 56 + b"\xc8", block(instructions=57))
    assert not variants.alike(b"\x90\xc3", block(pages=(7, 8)))
    assert not variants.alike(b"\x90\xc3", block(limit=2))


def test_nothing_is_translated_while_the_buffer_may_be_full() -> None:
    rig = Rig()
    variants = rig.variants
    variants.note(BLOCK, CLASS | AC)
    last = BUFFER + TCG_BUFFER - ROOM - 0x200  # from here on there is no room after a block
    variants.placed(block())
    for code, new, made in ((last + 1, False, 0), (BUFFER + 0x100, False, 0), (last, True, 1), (last + 1, True, 0)):
        rig.made.clear()
        variants.placed(block(code))
        if new:
            variants.made(block(code))
        variants.translate(BLOCK, CLASS)
        assert len(rig.made) == made, hex(code)
