; Has the kernel read a page of a file's window that has to be fetched first, in the call that the argument's first byte
; names.

        .include "attack.inc"

        ATTACKS

BYTES = 64

program_arguments:
        call    open
.again:
        mov     esi, program
        mov     ecx, PROGRAM_SIZE
        SYSTEM  START_PROCESS
        jmp     .again

directory_path:
        call    open
.again:
        mov     esi, edi
        mov     ecx, BYTES
        SYSTEM  SET_DIRECTORY
        jmp     .again

locked_path:
        call    open
.again:
        mov     esi, edi
        mov     ecx, BYTES
        SYSTEM  LOCK_DIRECTORY
        jmp     .again

written:
        call    open
.again:
        mov     esi, edi
        mov     ecx, BYTES
        SYSTEM  WRITE
        jmp     .again

; open: open the file; EDI is its window.
open:
        mov     esi, file
        mov     ecx, FILE_SIZE
        xor     edx, edx
        SYSTEM  OPEN
        jc      gained
        ret

COUNT = 4
        .rodata
        .align 4
attacks:
        .long   program_arguments, directory_path, locked_path, written
program:
        .ascii  "/rom/hello"
PROGRAM_SIZE = $ - program
file:   .ascii  "/d0/a"
FILE_SIZE = $ - file
