"""What the clock by blocks relies on in the engine, and a look whether it is there.

None of it is documented: that a hook at the entry of a block returns into the block's host code, where the record of
the block lies, that a bit of the engine's flags that means nothing to it keeps translations apart, and where in its
record of a hook the range of addresses lies.  So all of it is tried once in a process, in an engine of its own
(docs/emulator-notes.md).
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

from callgate.kernel.machine.blocks.block_code import BLOCK_CODE, HOOKED
from callgate.kernel.machine.blocks.translated import Translated, find
from callgate.kernel.machine.engine.context import discover
from callgate.kernel.machine.engine.counter import add_hook, address_of, executable_page, new_state, start
from callgate.kernel.machine.engine.counter_state import NOWHERE, CounterState
from callgate.kernel.machine.engine.sites import Sites
from callgate.kernel.machine.engine.untranslatable import rescue
from unicorn import UC_ARCH_X86, UC_HOOK_BLOCK, UC_HOOK_CODE, UC_MODE_32, Uc

CLASS: Final = 1 << 27  # of the engine's flags
BLOCK_AT: Final = 2048  # where the hook lies in the page of host code
RANGE_AT: Final = 24  # where in the engine's record of a hook its range of addresses lies
EVERYWHERE: Final[list[ctypes.c_uint64 | int]] = [1, 0]
NOWHERE_AT_ALL: Final[list[ctypes.c_uint64 | int]] = [NOWHERE, NOWHERE]
BLOCK_HOOK = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint64)
Range = ctypes.c_uint64 * 2
CODE: Final = 0x1000
SAMPLE: Final = bytes.fromhex("4043eb00f4")  # inc eax; inc ebx; jmp +0; hlt
BLOCKS: Final = [(CODE, 3), (CODE + 4, 1)]  # address and number of instructions


def hook_blocks(uc: int, state: CounterState) -> None:
    """Have the hook in host code called at the entry of each block; `state` holds the function that it asks."""
    code = executable_page()
    code.page[BLOCK_AT : BLOCK_AT + len(BLOCK_CODE)] = BLOCK_CODE
    add_hook(uc, UC_HOOK_BLOCK, code.count + BLOCK_AT, ctypes.addressof(state), 1, 0)


def range_of(hook: int) -> ctypes.Array[ctypes.c_uint64]:
    """Return the range of addresses of a hook, given the engine's handle of it, to be read and changed."""
    return Range.from_address(hook + RANGE_AT)


@cache
def blocks_are_known() -> bool:
    """Whether this engine makes blocks as the clock expects."""
    found = rescue()
    if found is None:
        return False
    engine, layout, state = Uc(UC_ARCH_X86, UC_MODE_32), discover(), new_state()
    _sites = Sites(state, lambda _error: None)  # the hook reads their table
    engine.mem_map(CODE, 0x1000)
    engine.mem_write(CODE, SAMPLE)
    entered: list[tuple[int, Translated | None]] = []

    def asked(_uc: int, address: int, size: int, back: int) -> int:
        block = find(back, address, size)
        entered.append((address, block))
        if block is not None:
            block.put_word(HOOKED)
        return HOOKED

    callback = BLOCK_HOOK(asked)
    state.block_call = address_of(callback)
    handle = engine._uch
    hook = add_hook(handle.value, UC_HOOK_CODE, executable_page().count, ctypes.addressof(state), 1, 0)
    hook_blocks(handle.value, state)
    flags = ctypes.c_uint32.from_address(found.cpu(handle) + found.offset + layout.hflags - layout.registers)
    covered = range_of(hook)
    if list(covered) != EVERYWHERE:
        return False
    for bit, hooked in ((0, True), (CLASS, False)):
        covered[:] = EVERYWHERE if hooked else NOWHERE_AT_ALL
        flags.value = flags.value & ~CLASS | bit
        entered.clear()
        for _ in range(2):  # the second time, no block is to ask
            start(handle, CODE)
        seen = [(address, block.instructions) for address, block in entered if block is not None]
        calls = [block.calls(executable_page().count) for _, block in entered if block is not None]
        classes = {block.flags & CLASS for _, block in entered if block is not None}
        if seen != BLOCKS or classes != {bit} or calls != [count if hooked else 0 for _, count in BLOCKS]:
            return False
    return int(state.count) == 2 * sum(count for _, count in BLOCKS)
