; A server with a disk that asks for sectors that are not its own, and uses what it was given for more than reading.
; ATTACK chooses.  SECTORS is the size of its partition.  If all was refused it serves honestly.

        .include "attack.inc"

start:
        jmp     dword ptr [attacks + ATTACK * 4]

serve_honestly:
        mov     eax, ServerCall.WAIT
.next:
        call    SELECTOR_SERVER_GATE:0
        jc      gained
        mov     dword ptr [ebx + Message.eflags], 0
        mov     ebx, [ebx + Message.handle]
        mov     eax, ServerCall.REPLY_REGISTERS
        jmp     .next

gained: ud2

; lock: lock ECX sectors from EDX:ESI on.
lock:   mov     eax, ServerCall.LOCK_BLOCKS
        call    SELECTOR_SERVER_GATE:0
        ret

; outside: ranges that end after the partition, begin after it, wrap around, or are empty.
outside:
        mov     ebp, ranges
.next:
        mov     esi, [ebp]
        mov     edx, [ebp + 4]
        mov     ecx, [ebp + 8]
        call    lock
        REFUSED BAD_ARGUMENT
        add     ebp, 12
        cmp     ebp, ranges_end
        jb      .next
        jmp     serve_honestly

; at_the_end: the last sector is the partition's, and nothing after it in its page is shown.
at_the_end:
        mov     esi, SECTORS - 1
        xor     edx, edx
        mov     ecx, 1
        call    lock
        jc      gained
        mov     edi, eax
        cmp     dword ptr [edi], MINE
        jne     gained
        jmp     serve_honestly

; write_block: what is locked is shown to be read.
write_block:
        xor     esi, esi
        xor     edx, edx
        mov     ecx, 8
        call    lock
        jc      gained
        mov     dword ptr [eax], 0
        jmp     gained

; after_unlock: unlocked blocks are no longer mapped.
after_unlock:
        xor     esi, esi
        xor     edx, edx
        mov     ecx, 8
        call    lock
        jc      gained
        mov     edi, eax
        mov     ebx, eax
        mov     eax, [edi]
        mov     eax, ServerCall.UNLOCK_BLOCKS
        call    SELECTOR_SERVER_GATE:0
        jc      gained
        mov     eax, [edi]
        jmp     gained

; unlock_twice: the second time it is not locked, also from inside the range.
unlock_twice:
        xor     esi, esi
        xor     edx, edx
        mov     ecx, 16
        call    lock
        jc      gained
        mov     ebp, eax
        lea     ebx, [ebp + PAGE_SIZE]
        mov     eax, ServerCall.UNLOCK_BLOCKS
        call    SELECTOR_SERVER_GATE:0
        REFUSED BAD_ADDRESS
        mov     ebx, ebp
        mov     eax, ServerCall.UNLOCK_BLOCKS
        call    SELECTOR_SERVER_GATE:0
        jc      gained
        mov     ebx, ebp
        mov     eax, ServerCall.UNLOCK_BLOCKS
        call    SELECTOR_SERVER_GATE:0
        REFUSED BAD_ADDRESS
        jmp     serve_honestly

; free_block: the window is not memory that ALLOCATE gave.
free_block:
        xor     esi, esi
        xor     edx, edx
        mov     ecx, 8
        call    lock
        jc      gained
        mov     ebx, eax
        SYSTEM  FREE
        REFUSED BAD_ADDRESS
        jmp     serve_honestly

; give_block: pages of the disk cache are not the server's own to give as an object.
; give_sectors: sectors answer a request that reads a file, which this one's clients do not make.
give_block:
        xor     esi, esi
        xor     edx, edx
        mov     ecx, 8
        call    lock
        jc      gained
        mov     ebp, eax
        mov     eax, ServerCall.WAIT
.next:
        call    SELECTOR_SERVER_GATE:0
        mov     dword ptr [ebx + Message.eflags], 0
        mov     [ebx + Message.data], ebp
        mov     dword ptr [ebx + Message.data + 4], PAGE_SIZE
        mov     ebx, [ebx + Message.handle]
        mov     eax, ServerCall.REPLY_OBJECT
        jmp     .next

; read_registers: the controller's registers, where the kernel has mapped them.
read_registers:
        mov     eax, [KERNEL_MMIO]
        jmp     gained

; write_registers: start a command of its own making: PxCI of the first port.
write_registers:
        mov     dword ptr [KERNEL_MMIO + 0x138], 1
        jmp     gained

; port_of_ide, port_of_interrupts, host_call: I/O ports are ring 0's.
port_of_ide:
        mov     edx, 0x1f7
        mov     al, 0x20
        out     dx, al
        jmp     gained

port_of_interrupts:
        mov     al, 0xff
        out     0x21, al
        jmp     gained

host_call:
        out     HostCall.DISK_DONE, eax
        jmp     gained

        .rodata
        .align 4
attacks:
        .long   outside, at_the_end, unlock_twice, free_block, give_block, write_block, after_unlock
        .long   read_registers, write_registers, port_of_ide, port_of_interrupts, host_call
ranges: .long   SECTORS, 0, 1
        .long   SECTORS - 1, 0, 2
        .long   0, 0, 0
        .long   0, 0, SECTORS + 1
        .long   -1, -1, 2
        .long   -8, -1, 16
        .long   0, 1, 1
        .long   0, 0x80000000, 1
        .long   0, 0, -1
        .long   -4, 0, 8
ranges_end:
