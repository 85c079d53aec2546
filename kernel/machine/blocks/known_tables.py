"""What `machine.blocks.accesses` relies on in the engine, and a look whether it is there.

That is the form of the calls for accesses that the block's own code does not finish, and the engine's TLB: where its
tables lie, what an entry holds, and which marks it has.  All of it is compared in an engine of its own, once in a
process.
"""

from __future__ import annotations

import ctypes
import mmap
import re
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from callgate.kernel.machine.blocks.access_code import (
    ADDEND,
    ENTRY_SHIFT,
    FOR_STORES,
    MASK_AT,
    MMIO,
    NOT_DIRTY,
    NOTED,
    PAGE,
    TABLE_AT,
)
from callgate.kernel.machine.blocks.block_code import HOOKED
from callgate.kernel.machine.blocks.known_engine import BLOCK_HOOK, hook_blocks
from callgate.kernel.machine.blocks.translated import Translated, find
from callgate.kernel.machine.engine.counter import address_of, new_state, start
from callgate.kernel.machine.engine.counter_state import NOWHERE
from callgate.kernel.machine.engine.sites import Sites
from callgate.kernel.machine.engine.untranslatable import rescue
from unicorn import UC_ARCH_X86, UC_MODE_32, UC_PROT_ALL, Uc
from unicorn.unicorn_py3.unicorn import uclib

LOAD_NAMES: Final = ("helper_ret_ldub_mmu", "helper_le_lduw_mmu", "helper_le_ldul_mmu", "helper_le_ldq_mmu")
STORE_NAMES: Final = ("helper_ret_stb_mmu", "helper_le_stw_mmu", "helper_le_stl_mmu", "helper_le_stq_mmu")
# MOV RDI, RBP; MOV EDX, kind (or XOR); LEA RCX, [RIP+return address]; CALL routine, near or through memory
LOAD_CALL: Final = re.compile(rb"\x48\x8b\xfd(?:\xba....|\x33\xd2)\x48\x8d\x0d....(?:\xe8|(\xff\x15))(....)", re.DOTALL)
# LEA R8, [RIP+return address]; PUSH R8; JMP routine, likewise
STORE_CALL: Final = re.compile(rb"\x4c\x8d\x05....\x41\x50(?:\xe9|(\xff\x25))(....)", re.DOTALL)
RING_0: Final = 2 * 16  # how far its table's mask and address lie behind those of the first one
CODE, DATA, DEVICE = 0x1000, 0x5000, 0x10_0000
SIZE: Final = 0x1_0000
SMALLEST_PAGE: Final = 0x1000
# mov al, [DATA]; mov ax, [DATA]; mov eax, [DATA]; the stores; mov eax, [DEVICE]; hlt
SAMPLE: Final = bytes.fromhex(
    "a0 00500000 66a1 00500000 a1 00500000 a2 00500000 66a3 00500000 a3 00500000 a1 00001000 f4"
)
CALLS: Final = [(False, 0), (False, 1), (False, 2), (False, 2), (True, 0), (True, 1), (True, 2)]  # in the sample
# SHR RDI, 6; AND RDI, [RBP-20h]; ADD RDI, [RBP-18h]
LOOKED_UP: Final = b"\x48\xc1\xef\x06\x48\x23\x7d\xe0\x48\x03\x7d\xe8"
COMPARED: Final = (b"\x48\x3b\x37", b"\x48\x3b\x77\x08", b"\x48\x03\x77\x20")  # for loads, for stores; the addend


# Marks entries whose memory lies in a range of this process's addresses (QEMU's `tlb_reset_dirty`).
_mark = getattr(uclib, "tlb_reset_dirty_x86_64", None)
if _mark is not None:
    _mark.restype, _mark.argtypes = None, [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64]


@cache
def originals() -> dict[int, tuple[bool, int]]:
    """Return the addresses of the engine's routines: whether they store, and the number of their size.

    None at all if the engine does not export them.
    """
    found = {}
    for stores, names in ((False, LOAD_NAMES), (True, STORE_NAMES)):
        for index, name in enumerate(names):
            try:
                found[address_of(getattr(uclib, f"{name}_x86_64"))] = stores, index
            except AttributeError:
                return {}
    return found


class Call(NamedTuple):
    """A call of one of the engine's routines within host code: offset of its operand, and what kind of access it is."""

    at: int
    end: int  # offset that a near call is relative to
    slot: int | None  # offset of the word that holds the routine's address, if it is called through memory
    stores: bool
    width: int  # number of its size


def calls(host: bytes, code: int) -> Iterator[Call]:
    """Yield the calls of the engine's routines in host code that lies at an address."""
    routines = originals()
    for pattern in (LOAD_CALL, STORE_CALL):
        for call in pattern.finditer(host):
            end = call.end(2)
            target, slot = end + int.from_bytes(call[2], "little", signed=True), None
            if call[1] is not None:
                slot = target
                if not 0 <= slot <= len(host) - 8:
                    continue
                target = int.from_bytes(host[slot : slot + 8], "little") - code
            known = routines.get(code + target)
            if known is not None and known[0] == (pattern is STORE_CALL):
                yield Call(call.start(2), end, slot, *known)


def words(address: int, *offsets: int) -> list[int]:
    """Return words of 64 bits of this process's memory."""
    return [ctypes.c_uint64.from_address(address + offset).value for offset in offsets]


def mark_again(cpu: int, page: int) -> None:
    """Have a page of memory at an address in this process marked for stores, wherever the TLB of a CPU has it."""
    assert _mark is not None
    _mark(cpu, page, SMALLEST_PAGE)


@cache
def tables_are_known() -> bool:
    """Whether calls and TLB are as the host code expects."""
    found = rescue()
    if found is None or _mark is None:
        return False
    memory = mmap.mmap(-1, SIZE)
    memory[CODE : CODE + len(SAMPLE)] = SAMPLE
    host = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    engine, state = Uc(UC_ARCH_X86, UC_MODE_32), new_state()
    _sites = Sites(state, lambda _error: None)  # the hook reads their table
    engine.mem_map_ptr(0, SIZE, UC_PROT_ALL, host)
    loaded: list[int] = []

    def load(_uc: Uc, offset: int, _size: int, _data: None) -> int:
        loaded.append(offset)
        return 0

    engine.mmio_map(DEVICE, 0x1000, load, None, lambda *_: None, None)
    seen: list[tuple[Translated, bytes]] = []

    def asked(_uc: int, address: int, size: int, back: int) -> int:
        block = find(back, address, size)
        if block is not None:
            seen.append((block, ctypes.string_at(block.code, block.length)))
            block.put_word(HOOKED)
        return HOOKED

    callback = BLOCK_HOOK(asked)
    state.block_call = address_of(callback)
    hook_blocks(engine._uch.value, state)
    start(engine._uch, CODE)
    if len(seen) != 1 or not _form_is_known(*seen[0]):
        return False
    cpu = found.cpu(engine._uch)
    registers = cpu + found.offset
    if not _marks_again(cpu, registers, host):
        return False
    of_device = [DEVICE | MMIO, DEVICE | MMIO, DEVICE]
    if _entry(registers, DATA) != [DATA, DATA | NOT_DIRTY, DATA, host] or _entry(registers, DEVICE)[:3] != of_device:
        return False
    # What is noted in an entry of a device: the engine finds the entry, asks the device and leaves the note.
    noted = DEVICE | MMIO | NOTED, NOWHERE
    place = _place(registers, DEVICE)
    for offset, word in zip((0, ADDEND), noted, strict=True):
        ctypes.c_uint64.from_address(place + offset).value = word
    loaded.clear()
    start(engine._uch, CODE)
    return loaded == [0] and tuple(words(place, 0, ADDEND)) == noted


def _form_is_known(block: Translated, host: bytes) -> bool:
    found = sorted((call.stores, call.width) for call in calls(host, block.code))
    looked_up = host.count(LOOKED_UP) == len(CALLS) and all(host.count(code) >= 1 for code in COMPARED)
    return looked_up and block.pages == (CODE >> 12,) and found == CALLS


def _marks_again(cpu: int, registers: int, host: int) -> bool:
    """Whether the engine marks the page of `DATA` again where the mark has been removed, and no other."""
    mark = ctypes.c_uint64.from_address(_place(registers, DATA) + FOR_STORES)
    seen = [mark.value]
    mark.value &= ~NOT_DIRTY
    for page in (DATA - SMALLEST_PAGE, DATA + SMALLEST_PAGE, DATA):
        mark_again(cpu, host + page)
        seen.append(mark.value)
    return seen == [DATA | NOT_DIRTY, DATA, DATA, DATA | NOT_DIRTY]


def _place(registers: int, address: int) -> int:
    """Return where the entry of an address in the TLB of ring 0 lies."""
    mask, table = words(registers, MASK_AT + RING_0, TABLE_AT + RING_0)
    return table + (address >> ENTRY_SHIFT & mask)


def _entry(registers: int, address: int) -> list[int]:
    """Return an entry of the TLB of ring 0: addresses for loads and stores, the page, and what is to be added."""
    return words(_place(registers, address), 0, FOR_STORES, PAGE, ADDEND)
