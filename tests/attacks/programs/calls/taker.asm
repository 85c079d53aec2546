; Takes one resource until it is refused, and checks that it is refused as the table of limits says.

        .include "attack.inc"

ROM_DIRECTORY_SIZE = 4

        ATTACKS

; The first of a run of calls may not be refused: the limit is not zero.
again:  inc     dword ptr [taken]
        ret

; expect: the number of those that were given.
;   in:        edx  how many there must be
expect:
        cmp     [taken], edx
        jne     gained
        jmp     held

threads:
        mov     ebx, sleep
        mov     ecx, USER_STACK_TOP - 0x800
        SYSTEM  START_THREAD
        jc      .refused
        call    again
        jmp     threads
.refused:
        cmp     eax, ErrorCode.NO_RESOURCES
        jne     gained
        mov     edx, THREADS_OF_PROCESS - 1
        jmp     expect

pieces:
        mov     ecx, 1
        SYSTEM  ALLOCATE
        jc      .refused
        call    again
        jmp     pieces
.refused:
        cmp     eax, ErrorCode.NO_RESOURCES
        jne     gained
        mov     edx, ALLOCATIONS_OF_PROCESS
        jmp     expect

files:
        mov     esi, file
        mov     ecx, FILE_SIZE
        xor     edx, edx
        SYSTEM  OPEN
        jc      .refused
        call    again
        jmp     files
.refused:
        cmp     eax, ErrorCode.NO_RESOURCES
        jne     gained
        mov     edx, FILES_OF_PROCESS
        jmp     expect

directories:
        mov     esi, file
        mov     ecx, ROM_DIRECTORY_SIZE
        SYSTEM  LOCK_DIRECTORY
        jc      .refused
        call    again
        jmp     directories
.refused:
        cmp     eax, ErrorCode.NO_RESOURCES
        jne     gained
        mov     edx, DIRECTORIES_OF_PROCESS
        jmp     expect

; More at once than a process may have, and again after the first refusal: nothing is taken by a refusal.
heap:
        mov     ecx, (FRAMES_OF_PROCESS + 1) * PAGE_SIZE
        SYSTEM  ALLOCATE
        jnc     gained
        cmp     eax, ErrorCode.NO_MEMORY
        jne     gained
        inc     dword ptr [taken]
        cmp     dword ptr [taken], 1000
        jb      heap
        mov     ecx, PAGE_SIZE
        SYSTEM  ALLOCATE
        jc      gained
        jmp     held

; All the memory that there is for a family, kept until the end.
hoard:
        mov     ecx, 256 * PAGE_SIZE
.piece:
        SYSTEM  ALLOCATE
        jnc     .piece
        cmp     eax, ErrorCode.NO_MEMORY
        jne     gained
        shr     ecx, 1
        test    ecx, PAGE_SIZE - 1
        jz      .piece
sleep:
        SYSTEM  READ_CHARACTER
        jmp     sleep

; A directory of 506 pages, locked under 64 names, of a server that gives memory away and takes new memory each time.
large_directories:
        mov     al, [digit]
        mov     [large + LARGE_SIZE - 1], al
        inc     byte ptr [digit]
        mov     esi, large
        mov     ecx, LARGE_SIZE
        SYSTEM  LOCK_DIRECTORY
        jc      .refused
        call    again
        jmp     large_directories
.refused:
        cmp     eax, ErrorCode.NO_MEMORY
        jne     gained
        jmp     sleep

; As much as a process may have, in one call; it is freed, allocated again, and not freed.
largest:
        mov     ecx, (FRAMES_OF_PROCESS - 100) * PAGE_SIZE
        SYSTEM  ALLOCATE
        jc      gained
        mov     ebx, eax
        SYSTEM  FREE
        jc      gained
        mov     ecx, (FRAMES_OF_PROCESS - 100) * PAGE_SIZE
        SYSTEM  ALLOCATE
        jc      gained
        jmp     held

COUNT = 8
        .rodata
        .align 4
attacks:
        .long   threads, pieces, files, directories, heap, hoard, large_directories, largest
file:   .ascii  "/rom/hello"
FILE_SIZE = $ - file
        .data
        .align 4
taken:  .long   0
digit:  .byte   0x21
large:  .ascii  "/d0/x"
LARGE_SIZE = $ - large
