"""The hook at the entry of each translated block in host code: source, and the bytes that it makes.

`machine.blocks.block_counter` says what it does; names in braces are offsets in `CounterState`.
"""

from typing import Final

from callgate.kernel.machine.engine.counter_state import CounterState

KNOWN: Final = 1 << 31  # of a word: Python has looked at the block
ASKS: Final = 1 << 30  # Python is asked at each entry
HOOKED: Final = KNOWN  # the word of a block whose instructions are hooked
LENGTH: Final = 1023  # bits of a word: instructions of a plain block, 0 of one whose instructions are hooked
SHAPE_SHIFT: Final = 10  # above them: the number of its shape

# hook(rdi=uc, rsi=address, edx=size or word, rcx=state).  The word is the immediate that the block's code passes as
# the size: Python replaces it when the block is entered for the first time.
BLOCK_TEMPLATE: Final = """
    mov eax, edx
    shr eax, 30
    cmp eax, 2
    jne ask
known:
    mov eax, edx
    and eax, {length}
    jz hooked
    add rax, [rcx+{count}]
    cmp rax, [rcx+{limit}]
    ja past
    mov [rcx+{count}], rax
    mov [rcx+{block_word}], rdx
    mov [rcx+{block_address}], rsi
    mov qword ptr [rcx+{last_address}], -1
    and edx, {length}
    mov eax, esi
    shr eax, 30
    add [rcx+rax*8+{quadrants}], rdx
    cmp eax, 3
    sete al
    cmp al, [rcx+{in_kernel}]
    jne changed
    ret
changed:
    mov [rcx+{in_kernel}], al
    inc qword ptr [rcx+{ring_changes}]
    ret
hooked:
    mov qword ptr [rcx+{block_word}], 0
    ret
past:
    mov byte ptr [rcx+{stopped}], 1
    mov [rcx+{stop_address}], rsi
    jmp [rcx+{stop}]
ask:
    push rdi
    push rsi
    push rcx
    mov rax, rcx
    mov rcx, [rsp+24]
    call [rax+{block_call}]
    pop rcx
    pop rsi
    pop rdi
    mov edx, eax
    test edx, edx
    jnz known
    ret
"""


def source_of(template: str) -> str:
    """Return the assembly source with offsets in place of names."""
    offsets = {name: getattr(CounterState, name).offset for name, *_ in CounterState._fields_}
    return template.format(length=LENGTH, **offsets)


# What GNU as and Keystone make of the source above; a test assembles it again.
BLOCK_CODE: Final = bytes.fromhex(
    "89d0c1e81e83f802756989d025ff0300007446480301483b41087749488901488991480100004889b15001000048c74118ffffffff81e2ff"
    "03000089f0c1e81e480154c12083f8030f94c03a41487501c388414848ff4140c348c7814801000000000000c3c64170014889b1b8000000"
    "ff61105756514889c8488b4c2418ff9058010000595e5f89c285d20f8579ffffffc3"
)
