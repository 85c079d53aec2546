; Ways not to die: each is begun here, and the test kills the process in the middle of it.

        .include "attack.inc"

        ATTACKS

STACK = 4096

; write_window: WRITE out of a window whose page the kernel has to get first.
write_window:
        call    open
.again:
        mov     esi, edi
        mov     ecx, 64
        SYSTEM  WRITE
        jmp     .again

; path_in_window: a path that lies in such a window.
path_in_window:
        call    open
.again:
        mov     esi, edi
        mov     ecx, 64
        xor     edx, edx
        SYSTEM  OPEN
        jmp     .again

; start_threads: new threads without an end, each of which computes for ever.
start_threads:
        mov     ebx, spin
        mov     ecx, stack_top
        SYSTEM  START_THREAD
        jmp     start_threads

; exit_and_start: let another thread begin to start threads; end the process as soon as that one is preempted.
exit_and_start:
        mov     ebx, start_threads
        mov     ecx, other_top
        SYSTEM  START_THREAD
        jc      gained
        mov     ebx, HELD
        SYSTEM  EXIT

; start_child: a child that may come into being when its parent is dead.
start_child:
        mov     esi, child
        mov     ecx, child_length
        xor     edi, edi
        SYSTEM  START_PROCESS
        jc      gained
spin:   jmp     spin

; open: open the file; EDI is its window.
open:
        mov     esi, file
        mov     ecx, file_length
        xor     edx, edx
        SYSTEM  OPEN
        jc      gained
        ret

        .data
        .align 4
attacks:
        .long   write_window, path_in_window, start_threads, exit_and_start, start_child
COUNT = ($ - attacks) / 4
file:   .ascii  "/d0/a"
file_length = $ - file
child:  .ascii  "/rom/hello"
child_length = $ - child
        .bss
        .space  STACK
stack_top:
        .space  STACK
other_top:
