; A server that uses its gate for what is not its own; ATTACK chooses how.  If all was refused it goes on as a server
; that answers everything, so that a client can ask whether it lives; if it gained something it dies of UD2.

        .include "attack.inc"

NUMBERS = 0x300

start:
        jmp     dword ptr [attacks + ATTACK * 4]

; serve_honestly: answer every request with the registers it came with.
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

; blocks_without_disk: sectors of a server that has none.
blocks_without_disk:
        xor     edx, edx
        xor     esi, esi
        mov     ecx, 1
        mov     eax, ServerCall.LOCK_BLOCKS
        call    SELECTOR_SERVER_GATE:0
        REFUSED BAD_ARGUMENT
        mov     edx, -1
        mov     esi, -1
        mov     ecx, 2
        mov     eax, ServerCall.LOCK_BLOCKS
        call    SELECTOR_SERVER_GATE:0
        REFUSED BAD_ARGUMENT
        jmp     serve_honestly

; blocks_of_others: addresses that LOCK_BLOCKS has not returned.
blocks_of_others:
        mov     ecx, PAGE_SIZE
        SYSTEM  ALLOCATE
        jc      gained
        mov     ebx, eax
        call    unlock
        mov     ebx, USER_MESSAGES
        call    unlock
        mov     ebx, USER_METADATA
        call    unlock
        mov     ebx, USER_STACK_TOP - PAGE_SIZE
        call    unlock
        xor     ebx, ebx
        call    unlock
        jmp     serve_honestly

unlock: mov     eax, ServerCall.UNLOCK_BLOCKS
        call    SELECTOR_SERVER_GATE:0
        REFUSED BAD_ADDRESS
        ret

; versions_of_others: versions of directories that other servers have given out.
versions_of_others:
        xor     ebp, ebp
.next:
        mov     ebx, ebp
        mov     eax, ServerCall.DIRECTORY_CHANGED
        call    SELECTOR_SERVER_GATE:0
        inc     ebp
        cmp     ebp, NUMBERS
        jb      .next
        jmp     serve_honestly

; hosted_step: a native server has no hosted handler.
hosted_step:
        mov     ebx, start
        mov     eax, ServerCall.HOSTED_STEP
        call    SELECTOR_SERVER_GATE:0
        REFUSED BAD_CALL
        jmp     serve_honestly

; unknown_calls: every number that is not a server call.
unknown_calls:
        mov     ebp, ServerCall.DIRECTORY_CHANGED + 1
.next:
        cmp     ebp, SERVER_CALL_NO_WAIT
        jb      .ask
        cmp     ebp, SERVER_CALL_NO_WAIT + ServerCall.REPLY_SECTORS
        jbe     .skip
.ask:
        mov     eax, ebp
        xor     ebx, ebx
        call    SELECTOR_SERVER_GATE:0
        REFUSED BAD_CALL
.skip:
        inc     ebp
        cmp     ebp, NUMBERS
        jb      .next
        mov     eax, -1
        call    SELECTOR_SERVER_GATE:0
        REFUSED BAD_CALL
        mov     eax, 0x80000002
        call    SELECTOR_SERVER_GATE:0
        REFUSED BAD_CALL
        jmp     serve_honestly

; replies_to_nothing: every reply with every handle, before there was a request.
replies_to_nothing:
        xor     ebp, ebp
.next:
        mov     esi, ServerCall.REPLY_NONE
.type:
        mov     ebx, ebp
        lea     eax, [esi + SERVER_CALL_NO_WAIT]
        call    SELECTOR_SERVER_GATE:0
        REFUSED BAD_HANDLE
        inc     esi
        cmp     esi, ServerCall.REPLY_SECTORS
        jbe     .type
        inc     ebp
        cmp     ebp, NUMBERS
        jb      .next
        jmp     serve_honestly

; free_messages: the message window is not the server's to give back.
free_messages:
        mov     ebx, USER_MESSAGES
        SYSTEM  FREE
        REFUSED BAD_ADDRESS
        jmp     serve_honestly

; poll: without a request a poll returns nothing, and nothing is mapped.
poll:
        mov     eax, ServerCall.WAIT | SERVER_CALL_NO_WAIT
        call    SELECTOR_SERVER_GATE:0
        jc      gained
        test    ebx, ebx
        jnz     gained
        jmp     serve_honestly

; look_early: the message window before there was a request.
look_early:
        mov     eax, [USER_MESSAGES]
        jmp     gained

; ask_itself: its only thread waits for its own answer; only its end can help its clients.
ask_itself:
        mov     ebp, VOLUME << 16 | OPERATION_SERVER_DEFINED
        call    SELECTOR_IPC_GATE:0
        jmp     gained

; answer_ahead: the slot of an answered request will have a handle that can be guessed; until it is given out, nothing
; may be answered with it, neither while the slot is free nor while the next request lies in it.
answer_ahead:
        mov     eax, ServerCall.WAIT
.next:
        call    SELECTOR_SERVER_GATE:0
        jc      gained
        mov     dword ptr [ebx + Message.eflags], 0
        mov     ebx, [ebx + Message.handle]
        lea     ebp, [ebx + (1 << HANDLE_GENERATION_SHIFT)]
        mov     eax, ServerCall.REPLY_REGISTERS | SERVER_CALL_NO_WAIT
        call    SELECTOR_SERVER_GATE:0
        jc      gained
        mov     esi, 8
.guess:
        mov     ebx, ebp
        mov     eax, ServerCall.REPLY_REGISTERS | SERVER_CALL_NO_WAIT
        call    SELECTOR_SERVER_GATE:0
        REFUSED BAD_HANDLE
        SYSTEM  YIELD
        dec     esi
        jnz     .guess
        mov     eax, ServerCall.WAIT
        jmp     .next

; crowd: more threads than the endpoint has places for.
crowd:
        mov     dword ptr [threads], 1
.next:
        mov     ebx, serve_honestly
        mov     ecx, [threads]
        cmp     ecx, MOST
        ja      gained
        shl     ecx, 6
        add     ecx, stacks
        SYSTEM  START_THREAD
        jc      .refused
        inc     dword ptr [threads]
        jmp     .next
.refused:
        REFUSED NO_RESOURCES
        cmp     dword ptr [threads], MOST
        jne     gained
        jmp     serve_honestly

MOST = 32
        .bss
        .align 4
threads:
        .space  4
stacks: .space  (MOST + 1) * 64

        .rodata
        .align 4
attacks:
        .long   blocks_without_disk, blocks_of_others, versions_of_others, hosted_step, unknown_calls
        .long   replies_to_nothing, free_messages, poll, answer_ahead, crowd, look_early, ask_itself
