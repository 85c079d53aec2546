; Threads of one program that race: each makes CALLS calls about the same few handles, locks and pieces of memory, in any
; order, while the others are within theirs.  The thread that is done first ends the program.  The argument is the
; seed: four characters.

        .include "system.inc"

MULTIPLIER = 1664525
INCREMENT = 1013904223
THREADS = 4
STACK = 1024
FILES = 4                       ; of the volume, and handles that are tried
KINDS = 16                      ; of calls

start:
        mov     edi, 1
.another:
        mov     ecx, edi
        imul    ecx, STACK
        add     ecx, stacks
        mov     ebx, race
        mov     edx, edi
        SYSTEM  START_THREAD
        jc      broken
        inc     edi
        cmp     edi, THREADS
        jb      .another
        xor     edx, edx

; race: the work of one thread.
;   in:        edx  its number
race:
        mov     ebp, edx
        mov     eax, [USER_ARGUMENTS]
        imul    edx, edx, 0x1234567
        add     eax, edx
        mov     [seeds + ebp * 4], eax
        mov     dword ptr [left + ebp * 4], CALLS
.next:
        call    number
        and     eax, KINDS - 1
        call    dword ptr [kinds + eax * 4]
        dec     dword ptr [left + ebp * 4]
        jnz     .next
        xor     ebx, ebx
        SYSTEM  EXIT

broken: ud2

; path: the path of a file.
;   out:       esi ecx
path:   call    number
        and     eax, FILES - 1
        lea     esi, [paths + eax * 8]
        mov     ecx, 8
        ret

; handle: a handle that there may be.
;   out:       ebx
handle: call    number
        and     eax, FILES - 1
        lea     ebx, [eax + 1]
        ret

open:   call    path
        xor     edx, edx
        SYSTEM  OPEN
        jc      .none
        mov     [window], edi
.none:  ret

open_from_start:
        call    path
        mov     edx, OpenFlags.FROM_START
        SYSTEM  OPEN
        jc      .none
        mov     [window], edi
.none:  ret

close:  call    handle
        SYSTEM  CLOSE
        ret

map:    call    handle
        call    number
        movzx   esi, ax
        xor     edx, edx
        mov     ecx, 1
        SYSTEM  MAP_FILE
        ret

; print: out of a window that may be another file's by now, or no file's.
print:  mov     ebx, 1
        mov     esi, [window]
        call    number
        and     eax, 0x7000
        add     esi, eax
        mov     ecx, 300
        SYSTEM  WRITE
        ret

; path_in_window: a path out of the same place.
path_in_window:
        mov     esi, [window]
        mov     ecx, 8
        xor     edx, edx
        SYSTEM  OPEN
        ret

lock_directory:
        mov     esi, paths
        mov     ecx, 3
        SYSTEM  LOCK_DIRECTORY
        jc      .none
        mov     [locked], edx
.none:  ret

unlock: mov     edx, [locked]
        SYSTEM  UNLOCK_DIRECTORY
        ret

allocate:
        mov     ecx, 2 * PAGE_SIZE
        SYSTEM  ALLOCATE
        jc      .none
        mov     [piece], eax
.none:  ret

give_back:
        mov     ebx, [piece]
        SYSTEM  FREE
        ret

; link: the target of what is no link, into memory that another thread may give back meanwhile.
link:   call    path
        mov     edi, [piece]
        mov     edx, 100
        SYSTEM  READ_LINK
        ret

; volume: what a server is asked for, into the same.
volume: mov     ebx, 1
        mov     edi, [piece]
        SYSTEM  VOLUME_INFORMATION
        ret

; number: the next pseudo-random number of this thread.
;   in:        ebp  thread
;   out:       eax
number: imul    eax, [seeds + ebp * 4], MULTIPLIER
        add     eax, INCREMENT
        mov     [seeds + ebp * 4], eax
        shr     eax, 8
        ret

        .rodata
        .align 4
kinds:  .long   open, open, open_from_start, open_from_start, close, close, map, map
        .long   print, path_in_window, lock_directory, unlock, allocate, give_back, link, volume
paths:  .ascii  "/d0/F000/d0/F001/d0/F002/d0/F003"
        .bss
        .align 4
seeds:  .space  4 * THREADS
left:   .space  4 * THREADS
window: .space  4
locked: .space  4
piece:  .space  4
        .align 16
stacks: .space  STACK * (THREADS + 1)
        .text
