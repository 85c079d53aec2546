; A family tree: each process starts WIDTH children and ends, down to generation DEPTH, whose processes take what WHAT says
; until they are refused, and keep it.  Their ancestors are all dead by then.  The argument is the generation and the
; child's number, as digits; the first process has none.

        .include "system.inc"

STEP = 64 * PAGE_SIZE

start:
        movzx   eax, byte ptr [USER_ARGUMENTS]
        cmp     eax, '0' + DEPTH
        je      take
        test    eax, eax
        jnz     .parent
        mov     eax, '0'
.parent:
        inc     eax
        mov     [child], al
        mov     dword ptr [left], WIDTH
.next:
        mov     eax, [left]
        add     al, '0'
        mov     [child + 1], al
        mov     esi, kin
        mov     ecx, KIN_SIZE
        mov     edi, child
        SYSTEM  START_PROCESS
        dec     dword ptr [left]
        jnz     .next
        xor     ebx, ebx
        SYSTEM  EXIT

take:
        call    dword ptr [takers + WHAT * 4]
        jnc     take
sleep:
        SYSTEM  READ_CHARACTER
        jmp     sleep

files:
        mov     esi, large
        mov     ecx, LARGE_SIZE
        xor     edx, edx
        SYSTEM  OPEN
        ret

directories:
        mov     esi, large
        mov     ecx, DIRECTORY_SIZE
        SYSTEM  LOCK_DIRECTORY
        ret

threads:
        mov     ebx, sleep
        mov     ecx, USER_STACK_TOP - 0x800
        SYSTEM  START_THREAD
        ret

heap:
        mov     ecx, 16 * PAGE_SIZE
        SYSTEM  ALLOCATE
        ret

; reads: read at places of which no two are in one request, and go on when refused.
reads:
        cmp     dword ptr [handle], 0
        jne     .next
        call    files
        jc      .end
        mov     [handle], eax
.next:
        mov     ebx, [handle]
        mov     esi, [position]
        xor     edx, edx
        mov     ecx, 1
        SYSTEM  MAP_FILE
        add     dword ptr [position], STEP
        cmp     dword ptr [position], BYTES
        cmc
.end:   ret

; floods: the same of a file on a volume for each child's number, again and again.
floods:
        mov     al, [USER_ARGUMENTS + 1]
        mov     [volume + 4], al
        mov     esi, volume
        mov     ecx, VOLUME_SIZE
        xor     edx, edx
        SYSTEM  OPEN
        jc      .end
        mov     [handle], eax
.again:
        call    reads
        jnc     .again
        mov     dword ptr [position], 0
        jmp     .again
.end:   ret

; faults: take lines of the log: a fault is reported with its registers and code.
faults: ud2

        .rodata
        .align 4
takers: .long   files, directories, threads, heap, reads, faults, floods
kin:    .ascii  "/d0"
        .if     WHAT == 6
        .ascii  "p1"
        .endif
        .ascii  "/KIN"
KIN_SIZE = $ - kin
large:  .ascii  "/d0/LARGE"
LARGE_SIZE = $ - large
DIRECTORY_SIZE = 3
        .data
volume: .ascii  "/d0p0/LARGE"
VOLUME_SIZE = $ - volume
        .align 4
left:   .long   0
handle: .long   0
position:
        .long   0
child:  .byte   0, 0, 0
