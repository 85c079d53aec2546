"""The counting hook and the device of memory above 4 GiB in host code: sources, and the bytes that they make.

`machine.engine.counter` says what they do; names in braces are offsets in its `CounterState` and in
`machine.engine.sites.Cell`.
"""

from typing import Final

# hook(rdi=uc, rsi=address, edx=size, rcx=state).  The slow paths ask Unicorn itself for EFLAGS, and for EDX at an IDIV.
COUNT_TEMPLATE: Final = """
    cmp rsi, [rcx+{last_address}]
    je same
first:
    mov rax, [rcx+{count}]
    cmp rax, [rcx+{limit}]
    jae limited
sites:
    movzx r9d, si
    mov r8, [rcx+{site_map}]
    cmp byte ptr [r8+r9], 0
    jne site
retire:
    mov r8, [rcx+{resume_flag}]
    test byte ptr [r8], 1
    jnz returned
resumes:
    mov r8, [rcx+{late_flags}]
    mov r9, [r8]
    mov [rcx+{flags_source}], r9
    mov r9, [r8+16]
    mov [rcx+{flags_kind}], r9
    inc rax
    mov [rcx+{count}], rax
    mov [rcx+{last_address}], rsi
    mov eax, esi
    shr eax, 30
    inc qword ptr [rcx+rax*8+{quadrants}]
    cmp eax, 3
    sete al
    cmp al, [rcx+{in_kernel}]
    jne changed
    ret
changed:
    mov [rcx+{in_kernel}], al
    inc qword ptr [rcx+{ring_changes}]
    ret
returned:
    and byte ptr [r8], 0xfe
    jmp resumes
limited:
    cmp byte ptr [rcx+{armed}], 0
    je stop
    cmp rax, [rcx+{hard_limit}]
    jae stop
    push rdi
    push rsi
    push rcx
    lea rdx, [rcx+{eflags}]
    mov esi, {eflags_id}
    call [rcx+{reg_read}]
    pop rcx
    pop rsi
    pop rdi
    mov rax, [rcx+{count}]
    test dword ptr [rcx+{eflags}], 512
    jz sites
stop:
    mov byte ptr [rcx+{stopped}], 1
    mov [rcx+{stop_address}], rsi
    jmp [rcx+{stop}]
site:
    cmp rax, [rcx+{site_done}]
    jne fresh
    cmp rsi, [rcx+{site_address}]
    je retire
fresh:
    mov r8, [rcx+{chains}]
    mov r8, [r8+r9*8]
    xor r9d, r9d
chain:
    test r8, r8
    jz chained
    cmp [r8+{cell_address}], rsi
    jne other
    mov [rcx+{site_done}], rax
    mov [rcx+{site_address}], rsi
    mov r10, [r8+{cell_amount}]
    add [r8+{cell_count}], r10
    mov r10, [r8+{cell_call}]
    test r10d, {special}
    jnz special
    or r9, r10
other:
    mov r8, [r8+{cell_next}]
    jmp chain
chained:
    test r9, r9
    jz retire
    push rdi
    push rsi
    push rcx
    test r9, 1
    jnz report
    lea rdx, [rcx+{edx}]
    mov esi, {edx_id}
    call [rcx+{reg_read}]
    mov rcx, [rsp]
    mov edx, [rcx+{edx}]
    cmp edx, 0x80000000
    je divides
    cmp dx, 0x8000
    jne unharmed
divides:
    mov rsi, [rsp+8]
    mov rdi, [rsp+16]
report:
    call [rcx+{site_call}]
unharmed:
    pop rcx
    pop rsi
    pop rdi
    mov rax, [rcx+{count}]
    cmp rax, [rcx+{limit}]
    jb retire
    cmp byte ptr [rcx+{armed}], 0
    je stop
    jmp retire
special:
    test r10d, {turn}
    jnz turn
    test r10d, {computes}
    jz gather
    mov r11, [rcx+{sse_flags}]
    test byte ptr [r11], {discarded}
    jz masks
    mov byte ptr [r11], 0
    jmp masks
gather:
    test r10d, {gathers}
    jz gathered
    mov r11, [rcx+{sse_flags}]
    movzx edx, byte ptr [r11]
    mov byte ptr [r11], 0
    test dl, {discarded}
    jnz discard
    test dl, 0x80
    jz exact
    or edx, 0x30
exact:
    and edx, 0x3d
    mov rax, [rcx+{mxcsr}]
    or [rax], edx
discard:
    test r10d, {discards}
    jz gathered
    mov byte ptr [r11], {discarded}
gathered:
    test r10d, {gathers_x87}
    jz masks
    mov r11, [rcx+{x87_flags}]
    movzx edx, byte ptr [r11]
    mov byte ptr [r11], 0
    and edx, 0x3d
    mov r11, [rcx+{x87_status}]
    or [r11], dx
    mov dx, [r11+2]
    not edx
    and dx, [r11]
    test dl, 0x3f
    jz pending
    or word ptr [r11], 0x8080
pending:
    test r10d, {stack_used}
    jz masks
    mov rdx, [rcx+{cr0}]
    test byte ptr [rdx], 0x0c
    jnz masks
    test byte ptr [r11], 0x80
    jnz ask
    mov rdx, [r8+{cell_scale}]
    or rdx, [r8+{cell_displacement}]
    jz masks
    and word ptr [r11], 0xfdff
    mov r11, [rcx+{x87_tags}]
    mov rax, [r11]
    movabs rdx, 0x0102040810204080
    imul rax, rdx
    shr rax, 56
    mov r11, [rcx+{x87_top}]
    push rcx
    mov ecx, [r11]
    ror al, cl
    pop rcx
    test [r8+{cell_scale}], al
    jnz ask
    not al
    test [r8+{cell_displacement}], al
    jz masks
ask:
    or r9d, 1
masks:
    test r10d, {unmasked}
    jz operand
    mov r11, [rcx+{mxcsr}]
    mov edx, [r11]
    not edx
    test edx, 0x1f80
    jz operand
    or r9d, 1
operand:
    mov rax, [rcx+{count}]
    test r10d, {always}
    jnz tell
    test r10d, {lengths}
    jz last
    mov r11, [r8+{cell_base}]
    cmp dword ptr [r11], 0x80000000
    je tell
    mov r11, [r8+{cell_index}]
    cmp dword ptr [r11], 0x80000000
    je tell
last:
    test r10d, {last_turn}
    jz address
    mov r11, [r8+{cell_base}]
    cmp word ptr [r11], 1
    je tell
address:
    test r10d, {aligned}
    jz other
    mov r11, [r8+{cell_index}]
    mov edx, [r11]
    imul edx, [r8+{cell_scale}]
    mov r11, [r8+{cell_base}]
    add edx, [r11]
    mov r11, [r8+{cell_segment}]
    add edx, [r11]
    add edx, [r8+{cell_displacement}]
    test dl, 15
    jz other
tell:
    or r9d, 1
    jmp other
turn:
    mov r11, [rcx+{running}]
    mov rax, [rcx+{count}]
    movzx edx, word ptr [r11]
    shr edx, 3
    shl edx, 4
    add rdx, [rcx+{turns}]
    mov r10, rax
    sub r10, [rcx+{charged_at}]
    add [rdx], r10
    mov [rcx+{charged_at}], rax
    movzx edx, word ptr [r11+4]
    shr edx, 3
    shl edx, 4
    add rdx, [rcx+{turns}]
    mov rdx, [rdx+8]
    mov [rcx+{user_kind}], rdx
    lea rdx, [rcx+rdx*8+{file_bytes_kernel}]
    mov r10, [rcx+{counts_at}]
    mov [r10], rdx
    jmp other
same:
    mov r8, [rcx+{repeats}]
    movzx r9d, si
    and r9d, {repeat_mask}
    cmp [r8+r9*4], esi
    je first
    push rdi
    push rsi
    push rcx
    call [rcx+{repeat_call}]
    pop rcx
    pop rsi
    pop rdi
    jmp first
"""

# load(rdi=uc, rsi=offset, edx=size, rcx=state): the bytes, which are counted by the running code.
LOAD_TEMPLATE: Final = """
    mov r9d, edx
    xor eax, eax
    cmp byte ptr [rcx+{in_kernel}], 0
    jne kernel
    mov rax, [rcx+{user_kind}]
kernel:
    add [rcx+rax*8+{file_bytes_kernel}], r9
    add rsi, [rcx+{high_memory}]
    cmp edx, 4
    je four
    cmp edx, 1
    je one
    cmp edx, 2
    je two
    mov rax, [rsi]
    ret
four:
    mov eax, [rsi]
    ret
two:
    movzx eax, word ptr [rsi]
    ret
one:
    movzx eax, byte ptr [rsi]
    ret
"""

# store(rdi=uc, rsi=offset, edx=size, rcx=value, r8=state)
STORE_TEMPLATE: Final = """
    mov r9d, edx
    xor eax, eax
    cmp byte ptr [r8+{in_kernel}], 0
    jne kernel
    mov rax, [r8+{user_kind}]
kernel:
    add [r8+rax*8+{file_bytes_kernel}], r9
    mov r10, [r8+{count}]
    cmp r10, [r8+{stored_at}]
    je again
    mov [r8+{stored_at}], r10
    mov qword ptr [r8+{stored}], 0
again:
    add [r8+{stored}], r9
    mov rax, rsi
    shr rax, {page_shift}
    add rax, [r8+{high_marks}]
    mov byte ptr [rax], 1
    mov rax, [r8+{high_marked}]
    mov byte ptr [rax], 1
    add rsi, [r8+{high_memory}]
    cmp edx, 4
    je four
    cmp edx, 1
    je one
    cmp edx, 2
    je two
    mov [rsi], rcx
    ret
four:
    mov [rsi], ecx
    ret
two:
    mov [rsi], cx
    ret
one:
    mov [rsi], cl
    ret
"""


# What GNU as and Keystone make of the sources above; a test assembles them again.
COUNT_CODE: Final = bytes.fromhex(
    "483b71180f849d030000488b01483b4108736d440fb7ce4c8b819800000043803c08000f859f0000004c8b8188010000"
    "41f6000175444c8b81300100004d8b084c8989380100004d8b48104c89894001000048ffc04889014889711889f0c1e8"
    "1e48ff44c12083f8030f94c03a41487501c388414848ff4140c3418020feebb680b980000000007431483b4178732b57"
    "5651488d9188000000be19000000ff9190000000595e5f488b01f78188000000000200000f8459ffffffc64170014889"
    "b1b8000000ff6110483b81a8000000750d483bb1b00000000f844bffffff4c8b81a00000004f8b04c84531c94d85c074"
    "314939307526488981a80000004889b1b00000004d8b50104d0150084d8b501841f7c2fc0f0000757b4d09d14d8b4020"
    "ebca4d85c90f84fefeffff57565149f7c1010000007535488d91f0000000be18000000ff9190000000488b0c248b91f0"
    "00000081fa0000008074076681fa00807510488b742408488b7c2410ff91c0000000595e5f488b01483b41080f82a7fe"
    "ffff80b980000000000f842bffffffe995feffff41f7c2000800000f85a901000041f7c280000000741a4c8b99000100"
    "0041f603020f84ee00000041c60300e9e500000041f7c20400000074354c8b9900010000410fb61341c60300f6c20275"
    "14f6c280740383ca3083e23d488b81f8000000091041f7c208000000740441c6030241f7c2100000000f849a0000004c"
    "8b9910010000410fb61341c6030083e23d4c8b99080100006641091366418b5302f7d266412313f6c23f74066641810b"
    "808041f7c200020000745e488b9128010000f6020c755241f603807548498b5038490b5048744266418123fffd4c8b99"
    "18010000498b0348ba8040201008040201480fafc248c1e8384c8b992001000051418b0bd2c859418440387508f6d041"
    "84404874044183c90141f7c24000000074184c8b99f8000000418b13f7d2f7c2801f000074044183c901488b0141f7c2"
    "01000000756b41f7c200010000741a4d8b582841813b0000008074554d8b583041813b00000080744841f7c200040000"
    "740b4d8b58286641833b01743441f7c2200000000f8402feffff4d8b5830418b13410faf50384d8b58284103134d8b58"
    "4041031341035048f6c20f0f84dbfdffff4183c901e9d2fdffff4c8b9978010000488b01410fb713c1ea03c1e2044803"
    "91700100004989c24c2b91800100004c011248898180010000410fb75304c1ea03c1e20448039170010000488b520848"
    "895168488d54d1504c8b9190010000498912e975fdffff4c8b81c8000000440fb7ce4181e1ff0f0000433934880f8447"
    "fcffff575651ff91d0000000595e5fe936fcffff"
)
LOAD_CODE: Final = bytes.fromhex(
    "4189d131c0807948007504488b41684c014cc1504803b1d800000083fa04740e83fa01741083fa027407488b06c38b06c30fb706c30fb606c3"
)
STORE_CODE: Final = bytes.fromhex(
    "4189d131c041807848007504498b40684d014cc0504d8b104d3b90e000000074124d8990e000000049c780e800000000"
    "0000004d0188e80000004889f048c1e80c49038098010000c60001498b80a0010000c600014903b0d800000083fa0474"
    "0e83fa01741083fa02740748890ec3890ec366890ec3880ec3"
)
