; A program that asks for more writable pages of a file than there are.  ATTACK chooses; PAGES is how many pages of the
; file it writes to first.

        .include "attack.inc"

NAME_SIZE = 5
WINDOWS = 20
FILE_PAGES = 400

start:
        mov     ebx, refused
        mov     esi, store_across
        mov     edi, store_across_end
        SYSTEM  FILE_HANDLER
        jc      gained
        call    open
        mov     ecx, PAGES
        jecxz   .written
.write: mov     byte ptr [edi], 1
        add     edi, PAGE_SIZE
        loop    .write
.written:
        jmp     dword ptr [attacks + ATTACK * 4]

; open: EDI = a new window on the file, to be written.
open:   mov     esi, name
        mov     ecx, NAME_SIZE
        mov     edx, OpenFlags.WRITE
        SYSTEM  OPEN
        jc      gained
        ret

; result_across: the kernel writes a result that lies in two pages.
result_across:
        lea     edi, [edi + PAGE_SIZE - 8]
        mov     ebx, VOLUME_UNASKED
        SYSTEM  VOLUME_INFORMATION
        REFUSED NO_MEMORY
        jmp     held

; result_past_window: the kernel writes a result of which the rest would lie after the window, and one whose rest would lie
; after the file's last page.
result_past_window:
        lea     edi, [edi + (FILE_PAGES + 1 - PAGES) * PAGE_SIZE - 8]
        mov     ebx, VOLUME_UNASKED
        SYSTEM  VOLUME_INFORMATION
        REFUSED BAD_ADDRESS
        sub     edi, PAGE_SIZE
        mov     ebx, VOLUME_UNASKED
        SYSTEM  VOLUME_INFORMATION
        REFUSED BAD_ADDRESS
        jmp     held

; store_across: a store that lies in two pages.
store_across:
        mov     dword ptr [edi + PAGE_SIZE - 2], -1
store_across_end:
        jmp     gained

; many_windows: the beginning of the file in each of many windows.
many_windows:
        mov     dword ptr [left], WINDOWS
.next:
        call    open
        mov     al, [edi]
        dec     dword ptr [left]
        jnz     .next
all_mapped:
        jmp     held

refused:
        cmp     eax, ErrorCode.NO_MEMORY
        jne     gained
held:
        mov     ebx, HELD
        SYSTEM  EXIT
gained:
        mov     ebx, GAINED
        SYSTEM  EXIT

        .rodata
        .align 4
attacks:
        .long   result_across, store_across, many_windows, result_past_window
name:   .ascii  "/d0/f"
        .data
        .align 4
left:   .long   0
