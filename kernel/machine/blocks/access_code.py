"""Loads and stores of plain blocks that the engine's own fast way does not take: source, and the bytes that it makes.

`machine.blocks.accesses` says what they do; names in braces are offsets in `AccessState` and `CounterState`.
"""

import ctypes
from typing import Final

from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.machine.engine.counter_state import CounterState

SIZES: Final = (1, 2, 4, 8)  # bytes of an access
ORIGINALS = ctypes.c_void_p * len(SIZES)


class AccessState(ctypes.Structure):
    """What the routines read: high memory (physical address, bytes, address in this process), and low memory.

    `code_pages` is the address of a byte for each page of low memory, which is 0 if no code was translated from it;
    `loads` and `stores` are the engine's own routines.  `exit_at` is the address of a word that is negative while the
    engine is to stop, and `check` its routine that does so, given `uc`.

    The others are of `machine.blocks.file_loads`: `counter` is the address of the counter of file data that ring 3
    touches now; Python is asked through `ask` after `until_asked` more loads by a routine, or if `worn` is set.
    """

    _fields_ = [
        ("window_base", ctypes.c_uint64),
        ("window_size", ctypes.c_uint64),
        ("window_host", ctypes.c_uint64),
        ("memory", ctypes.c_uint64),
        ("memory_size", ctypes.c_uint64),
        ("code_pages", ctypes.c_uint64),
        ("clock", ctypes.c_uint64),
        ("exit_at", ctypes.c_uint64),
        ("check", ctypes.c_uint64),
        ("uc", ctypes.c_uint64),
        ("counter", ctypes.c_uint64),
        ("until_asked", ctypes.c_int32),
        ("worn", ctypes.c_uint32),
        ("ask", ctypes.c_void_p),
        ("loads", ORIGINALS),
        ("stores", ORIGINALS),
    ]


MMIO: Final = 1 << 9  # of an address in the engine's TLB: a device
NOTED: Final = 1 << 5  # of an address for loads, which means nothing to the engine: file data, and `ADDEND` is its own
NOT_DIRTY: Final = 1 << 10  # of an address for stores: memory from which code may have been translated
ENTRY_SHIFT: Final = 6  # an entry takes 64 bytes: addresses for loads, stores and code, the page, and what to add
FOR_STORES, PAGE, ADDEND = 0x08, 0x18, 0x20  # offsets in an entry
MASK_AT: Final = -0x40  # from the engine's registers: mask and address of the first table
TABLE_AT: Final = MASK_AT + 8
# Where the routines lie after the state.  What is written lies in other pages than code: a CPU takes a store beside
# code that it executes for a change of that, and begins anew.
CODE_AT: Final = PAGE_SIZE
STEP: Final = 256  # bytes from one routine to the next

# R11 is the address of the state.
# load(rdi=registers, rsi=address, edx=kind of access, rcx=return address within the block)
LOAD_TEMPLATE: Final = """
    mov eax, edx
    and eax, 15
    shl eax, 4
    mov r8, rsi
    shr r8, {shift}
    and r8, [rdi+rax+{mask_at}]
    add r8, [rdi+rax+{table_at}]
    mov r10d, esi
    and r10d, 0xfff
    mov r9, [r8]
    xor r9, rsi
    xor r9, r10
    and r9, ~{noted}
    cmp r9, {mmio}
    jne other
    test r10d, {size} - 1
    jnz other
    mov r9, [r8+{page}]
    sub r9, [r11+{window_base}]
    cmp r9, [r11+{window_size}]
    jae other
    add r9, r10
    add r9, [r11+{window_host}]
    mov r10, r9
    sub r10, rsi
    mov [r8+{addend}], r10
    or qword ptr [r8], {noted}
    mov r10, [r11+{clock}]
    cmp byte ptr [r10+{in_kernel}], 0
    jne kernel
    mov rax, [r10+{user_kind}]
    add qword ptr [r10+rax*8+{file_bytes_kernel}], {size}
    {load}
    dec dword ptr [r11+{until_asked}]
    js ask
    ret
kernel:
    add qword ptr [r10+{file_bytes_kernel}], {size}
    {load}
    ret
other:
    push rcx
    push r11
    sub rsp, 8
    call [r11+{original}]
    add rsp, 8
    pop r11
    pop rcx
    mov r8, [r11+{exit_at}]
    cmp dword ptr [r8], 0
    jl leave
    cmp dword ptr [r11+{worn}], 0
    jne ask
    ret
ask:
    push rax
    sub rsp, 16
    mov rdi, rcx
    call [r11+{ask}]
    add rsp, 16
    pop rax
    ret
leave:
    mov [rsp], rcx
    mov rdi, [r11+{uc}]
    xor esi, esi
    jmp [r11+{check}]
"""

# store(rdi=registers, rsi=address, rdx=value, ecx=kind of access, r8=return address within the block, to which it goes)
STORE_TEMPLATE: Final = """
    mov eax, ecx
    and eax, 15
    shl eax, 4
    mov r9, rsi
    shr r9, {shift}
    and r9, [rdi+rax+{mask_at}]
    add r9, [rdi+rax+{table_at}]
    mov eax, esi
    and eax, 0xfff
    mov r10, [r9+{for_stores}]
    xor r10, rsi
    xor r10, rax
    cmp r10, {not_dirty}
    jne other
    cmp eax, 0x1000 - {size}
    ja other
    mov r10, [r9+{addend}]
    add r10, rsi
    mov rax, r10
    sub rax, [r11+{memory}]
    cmp rax, [r11+{memory_size}]
    jae other
    shr rax, 12
    add rax, [r11+{code_pages}]
    cmp byte ptr [rax], 0
    jne other
    and qword ptr [r9+{for_stores}], ~{not_dirty}
    {store}
    ret
other:
    push r11
    call [r11+{original}]
    pop r11
    mov r8, [r11+{exit_at}]
    cmp dword ptr [r8], 0
    jl leave
    ret
leave:
    mov rdi, [r11+{uc}]
    xor esi, esi
    jmp [r11+{check}]
"""
LOADS: Final = {
    1: "movzx eax, byte ptr [r9]",
    2: "movzx eax, word ptr [r9]",
    4: "mov eax, [r9]",
    8: "mov rax, [r9]",
}
STORES: Final = {1: "mov [r10], dl", 2: "mov [r10], dx", 4: "mov [r10], edx", 8: "mov [r10], rdx"}


def source_of(*, stores: bool, index: int) -> str:
    """Return the assembly source of a routine for accesses of `SIZES[index]` bytes."""
    offsets = {name: getattr(AccessState, name).offset for name, *_ in AccessState._fields_}
    offsets |= {name: getattr(CounterState, name).offset for name, *_ in CounterState._fields_}
    size, originals = SIZES[index], offsets["stores" if stores else "loads"]
    return (STORE_TEMPLATE if stores else LOAD_TEMPLATE).format(
        **offsets,
        original=originals + index * ctypes.sizeof(ctypes.c_void_p),
        size=size,
        load=LOADS[size],
        store=STORES[size],
        shift=ENTRY_SHIFT,
        mask_at=MASK_AT,
        table_at=TABLE_AT,
        for_stores=FOR_STORES,
        page=PAGE,
        addend=ADDEND,
        mmio=MMIO,
        noted=NOTED,
        not_dirty=NOT_DIRTY,
    )


# What GNU as and Keystone make of the sources above, for loads and for stores; a test assembles them again.
LOAD_CODE: Final = (
    bytes.fromhex(
        "89d083e00fc1e0044989f049c1e8064c234407c04c034407c84189f24181e2ff0f00004d8b084931f14d31d14983e1df4981f900"
        "020000755541f7c200000000754c4d8b48184d2b0b4d3b4b08733f4d01d14d034b104d89ca4929f24d895020498308204d8b5330"
        "41807a48007515498b4268498344c25001410fb60141ff4b58782fc34983425001410fb601c35141534883ec0841ff53684883c4"
        "08415b594d8b4338418338007c1a41837b5c007501c3504883ec104889cf41ff53604883c41058c348890c24498b7b4831f641ff"
        "6340"
    ),
    bytes.fromhex(
        "89d083e00fc1e0044989f049c1e8064c234407c04c034407c84189f24181e2ff0f00004d8b084931f14d31d14983e1df4981f900"
        "020000755541f7c201000000754c4d8b48184d2b0b4d3b4b08733f4d01d14d034b104d89ca4929f24d895020498308204d8b5330"
        "41807a48007515498b4268498344c25002410fb70141ff4b58782fc34983425002410fb701c35141534883ec0841ff53704883c4"
        "08415b594d8b4338418338007c1a41837b5c007501c3504883ec104889cf41ff53604883c41058c348890c24498b7b4831f641ff"
        "6340"
    ),
    bytes.fromhex(
        "89d083e00fc1e0044989f049c1e8064c234407c04c034407c84189f24181e2ff0f00004d8b084931f14d31d14983e1df4981f900"
        "020000755341f7c203000000754a4d8b48184d2b0b4d3b4b08733d4d01d14d034b104d89ca4929f24d895020498308204d8b5330"
        "41807a48007514498b4268498344c25004418b0141ff4b58782ec34983425004418b01c35141534883ec0841ff53784883c40841"
        "5b594d8b4338418338007c1a41837b5c007501c3504883ec104889cf41ff53604883c41058c348890c24498b7b4831f641ff6340"
    ),
    bytes.fromhex(
        "89d083e00fc1e0044989f049c1e8064c234407c04c034407c84189f24181e2ff0f00004d8b084931f14d31d14983e1df4981f900"
        "020000755341f7c207000000754a4d8b48184d2b0b4d3b4b08733d4d01d14d034b104d89ca4929f24d895020498308204d8b5330"
        "41807a48007514498b4268498344c25008498b0141ff4b587831c34983425008498b01c35141534883ec0841ff93800000004883"
        "c408415b594d8b4338418338007c1a41837b5c007501c3504883ec104889cf41ff53604883c41058c348890c24498b7b4831f641"
        "ff6340"
    ),
)
STORE_CODE: Final = (
    bytes.fromhex(
        "89c883e00fc1e0044989f149c1e9064c234c07c04c034c07c889f025ff0f00004d8b51084931f24931c24981fa0004000075343d"
        "ff0f0000772d4d8b51204901f24c89d0492b4318493b4320731948c1e80c49034328803800750c49816108fffbffff418812c341"
        "5341ff9388000000415b4d8b4338418338007c01c3498b7b4831f641ff6340"
    ),
    bytes.fromhex(
        "89c883e00fc1e0044989f149c1e9064c234c07c04c034c07c889f025ff0f00004d8b51084931f24931c24981fa0004000075353d"
        "fe0f0000772e4d8b51204901f24c89d0492b4318493b4320731a48c1e80c49034328803800750d49816108fffbffff66418912c3"
        "415341ff9390000000415b4d8b4338418338007c01c3498b7b4831f641ff6340"
    ),
    bytes.fromhex(
        "89c883e00fc1e0044989f149c1e9064c234c07c04c034c07c889f025ff0f00004d8b51084931f24931c24981fa0004000075343d"
        "fc0f0000772d4d8b51204901f24c89d0492b4318493b4320731948c1e80c49034328803800750c49816108fffbffff418912c341"
        "5341ff9398000000415b4d8b4338418338007c01c3498b7b4831f641ff6340"
    ),
    bytes.fromhex(
        "89c883e00fc1e0044989f149c1e9064c234c07c04c034c07c889f025ff0f00004d8b51084931f24931c24981fa0004000075343d"
        "f80f0000772d4d8b51204901f24c89d0492b4318493b4320731948c1e80c49034328803800750c49816108fffbffff498912c341"
        "5341ff93a0000000415b4d8b4338418338007c01c3498b7b4831f641ff6340"
    ),
)
