; References to things of others: handles, locks, processes, memory, selectors, endpoints.

        .include "attack.inc"

        ATTACKS

NUMBERS = 0x300                 ; more than there are handles, locks and processes
ROM = 0

; EACH call, code: make a call with every number from 0 on in EBX and EDX; each must be refused.
        .macro EACH call, code
        mov     dword ptr [number], 0
.next\@:
        mov     ebx, [number]
        mov     edx, ebx
        mov     ecx, 1
        xor     esi, esi
        SYSTEM  \call
        REFUSED \code
        inc     dword ptr [number]
        cmp     dword ptr [number], NUMBERS
        jb      .next\@
        .endm

close_of_others:
        EACH    CLOSE, BAD_HANDLE
        jmp     held

map_of_others:
        EACH    MAP_FILE, BAD_HANDLE
        jmp     held

unlock_of_others:
        EACH    UNLOCK_DIRECTORY, BAD_HANDLE
        jmp     held

wait_for_others:
        EACH    WAIT_PROCESS, NO_CHILD
        jmp     held

kill_others:
        EACH    KILL_PROCESS, NO_CHILD
        jmp     held

; free_of_others: addresses that ALLOCATE did not return, all of user space at one a MiB and the pages of this program.
free_of_others:
        xor     ebx, ebx
.next:
        mov     [number], ebx
        SYSTEM  FREE
        REFUSED BAD_ADDRESS
        mov     ebx, [number]
        add     ebx, 0x100000
        jnz     .next
        mov     ebx, USER_STACK_TOP - PAGE_SIZE
        SYSTEM  FREE
        REFUSED BAD_ADDRESS
        mov     ebx, USER_ARGUMENTS
        SYSTEM  FREE
        REFUSED BAD_ADDRESS
        mov     ebx, start
        SYSTEM  FREE
        REFUSED BAD_ADDRESS
        mov     ecx, 2 * PAGE_SIZE
        SYSTEM  ALLOCATE
        jc      gained
        lea     ebx, [eax + PAGE_SIZE]
        SYSTEM  FREE
        REFUSED BAD_ADDRESS
        jmp     held

; free_windows: a directory and a file that the kernel shows are not memory that ALLOCATE returned.
free_windows:
        mov     esi, path
        mov     ecx, path_length
        SYSTEM  LOCK_DIRECTORY
        jc      gained
        mov     ebx, eax
        SYSTEM  FREE
        REFUSED BAD_ADDRESS
        mov     esi, file
        mov     ecx, file_length
        xor     edx, edx
        SYSTEM  OPEN
        jc      gained
        mov     eax, [edi]
        mov     ebx, edi
        SYSTEM  FREE
        REFUSED BAD_ADDRESS
        mov     ebx, esi
        SYSTEM  FREE
        REFUSED BAD_ADDRESS
        jmp     held

; selectors: LAR tells which descriptors ring 3 may name at all: code, data and two gates, none in the LDT.
selectors:
        xor     ebp, ebp
        mov     esi, 3
.next:
        lar     eax, esi
        jnz     .other
        inc     ebp
        cmp     esi, SELECTOR_USER_CODE
        je      .other
        cmp     esi, SELECTOR_USER_DATA
        je      .other
        cmp     esi, SELECTOR_SYSTEM_GATE
        je      .other
        cmp     esi, SELECTOR_IPC_GATE
        jne     gained
.other:
        add     esi, 4
        cmp     esi, 0x10000
        jb      .next
        cmp     ebp, 4
        jne     gained
        jmp     held

; server_gate: a client has no gate in its LDT.
server_gate:
        mov     eax, ServerCall.WAIT
        call    SELECTOR_SERVER_GATE:0
        jmp     gained

; private_operations: what holds something at the server is the kernel's own to ask for.
private_operations:
        mov     ebp, ROM << 16 | Operation.LOCK_DIRECTORY
.next:
        call    SELECTOR_IPC_GATE:0
        REFUSED BAD_CALL
.other:
        inc     ebp
        cmp     bp, Operation.BATCH
        je      .other                  ; the gate takes it (test_hostile_batches.py)
        cmp     ebp, ROM << 16 | OPERATION_SERVER_DEFINED
        jb      .next
        jmp     held

; endpoints: numbers that no server has.
endpoints:
        mov     ebp, 1 << 16 | Operation.NULL
.next:
        mov     eax, ebp
        shr     eax, 16
        call    SELECTOR_IPC_GATE:0
        REFUSED BAD_ARGUMENT
        add     ebp, 1 << 16
        cmp     ebp, 0xffff0000
        jb      .next
        jmp     held

; operations: the upper half of EBP names the server, whatever the lower one is; no operation reaches past the table.
operations:
        mov     ebp, ROM << 16 | OPERATION_SERVER_DEFINED
.next:
        call    SELECTOR_IPC_GATE:0
        jnc     gained
        inc     ebp
        cmp     ebp, ROM << 16 | OPERATION_SERVER_DEFINED + 0x400
        jb      .next
        mov     ebp, ROM << 16 | 0xffff
        call    SELECTOR_IPC_GATE:0
        jnc     gained
        jmp     held

        .rodata
        .align 4
attacks:
        .long   close_of_others, map_of_others, unlock_of_others, wait_for_others, kill_others, free_of_others
        .long   selectors, server_gate, private_operations, endpoints, operations, free_windows
COUNT = ($ - attacks) / 4

path:   .ascii  "/rom"
path_length = $ - path
file:   .ascii  "/rom/hello"
file_length = $ - file

        .data
        .align 4
number: .long   0
