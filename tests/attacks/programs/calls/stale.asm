; Memory that is no longer this program's: a touch must be a page fault, in every thread.

        .include "attack.inc"

        ATTACKS

SIZE = 4 * PAGE_SIZE
PATTERN = 0x600d600d

; ours: memory with a pattern, touched, so that the TLB knows it.
;   out:       esi  address
ours:
        mov     ecx, SIZE
        SYSTEM  ALLOCATE
        jc      gained
        mov     esi, eax
        mov     edi, eax
        mov     eax, PATTERN
        mov     ecx, SIZE / 4
        rep     stosd
        ret

read_after_free:
        call    ours
        mov     ebx, esi
        SYSTEM  FREE
        jc      gained
        mov     eax, [esi + PAGE_SIZE]
        jmp     gained

write_after_free:
        call    ours
        mov     ebx, esi
        SYSTEM  FREE
        jc      gained
        mov     dword ptr [esi + 2 * PAGE_SIZE], 0
        jmp     gained

; other_thread_after_free: the other thread has touched the memory too; it looks after this one has given it back.
other_thread_after_free:
        call    ours
        mov     [address], esi
        mov     ebx, .other
        mov     ecx, stack_top
        SYSTEM  START_THREAD
        jc      gained
.wait:
        SYSTEM  YIELD
        cmp     dword ptr [phase], 1
        jne     .wait
        mov     ebx, esi
        SYSTEM  FREE
        jc      gained
        mov     dword ptr [phase], 2
.for_ever:
        SYSTEM  YIELD
        jmp     .for_ever
.other:
        mov     esi, [address]
        mov     eax, [esi]
        cmp     eax, PATTERN
        jne     gained
        mov     dword ptr [phase], 1
.look:
        SYSTEM  YIELD
        cmp     dword ptr [phase], 2
        jne     .look
        mov     eax, [esi]
        jmp     gained

; given_again: what comes back from ALLOCATE is zero, whichever program had the frames before: here this one, with a pattern.
given_again:
        mov     ebp, 50
.again:
        call    ours
        mov     ebx, esi
        SYSTEM  FREE
        jc      gained
        mov     ecx, SIZE
        SYSTEM  ALLOCATE
        jc      gained
        mov     ebx, eax
        mov     edi, eax
        xor     eax, eax
        mov     ecx, SIZE / 4
        repe    scasd
        jne     gained
        SYSTEM  FREE
        dec     ebp
        jnz     .again
        jmp     held

directory_after_unlock:
        mov     esi, path
        mov     ecx, path_length
        SYSTEM  LOCK_DIRECTORY
        jc      gained
        mov     esi, eax
        mov     eax, [esi]
        SYSTEM  UNLOCK_DIRECTORY
        jc      gained
        mov     eax, [esi]
        jmp     gained

file_after_close:
        call    open
        mov     esi, [edi]
        SYSTEM  CLOSE
        jc      gained
        mov     esi, [edi]
        jmp     gained

; page_after_close: the page that tells what of a file is in memory.
page_after_close:
        call    open
        mov     edi, esi
        mov     eax, [edi]
        SYSTEM  CLOSE
        jc      gained
        mov     eax, [edi]
        jmp     gained

; open: open a file of the ROM.
;   out:       ebx  handle, esi  its page, edi  its window
open:
        mov     esi, file
        mov     ecx, file_length
        xor     edx, edx
        SYSTEM  OPEN
        jc      gained
        mov     ebx, eax
        ret

; write_directory, write_file, write_file_page: what the kernel shows to be read.
write_directory:
        mov     esi, path
        mov     ecx, path_length
        SYSTEM  LOCK_DIRECTORY
        jc      gained
        mov     dword ptr [eax], 0
        jmp     gained

write_file:
        call    open
        mov     eax, [edi]
        mov     dword ptr [edi], 0
        jmp     gained

write_file_page:
        call    open
        mov     dword ptr [esi], 0
        jmp     gained

; run_data: the heap, the stack and a window are not to be executed.
run_heap:
        call    ours
        jmp     esi

run_stack:
        mov     byte ptr [esp], 0xc3
        jmp     esp

run_file:
        call    open
        mov     eax, [edi]
        jmp     edi

; below_the_stack: the page below the part of the stack that is given on demand.
below_the_stack:
        mov     eax, USER_STACK_TOP - USER_STACK_SIZE - 4
        mov     [eax], eax
        jmp     gained

; arguments: the command line is read-only.
arguments:
        mov     dword ptr [USER_ARGUMENTS], 0
        jmp     gained

        .rodata
        .align 4
attacks:
        .long   read_after_free, write_after_free, other_thread_after_free, given_again, directory_after_unlock
        .long   file_after_close, page_after_close, write_directory, write_file, write_file_page
        .long   run_heap, run_stack, run_file, below_the_stack, arguments
COUNT = ($ - attacks) / 4

path:   .ascii  "/rom"
path_length = $ - path
file:   .ascii  "/rom/hello"
file_length = $ - file

        .data
        .align 4
address:
        .long   0
phase:  .long   0
        .space  1024
stack_top:
