; Files for user programs: open, read, write, seek, size, peek, close.
;
; Data in memory are served without a system call: the file's page (FilePage) lists the ranges, and the window shows
; them.  A first touch of such a range in this process is a page fault, by which the kernel maps it and learns how the
; reader moves on. All other data take a MAP_FILE.
;
; A File is the program's own memory.  Errors come as CF=1 and EAX = ErrorCode; an unplugged disk is one of them,
; also in the middle of file_read and file_write.  A program that reads or writes through pointers from file_peek is
; ended by the kernel if the page it touches is lost or read-only.

        .struct File
        .field  handle, 4
        .field  page, 4                 ; FilePage
        .field  window, 4
        .field  base, 8                 ; of the file, at the beginning of the window
        .field  position, 8
        .field  start, 8                ; the area used last: its first byte within the window …
        .field  length, 4               ; … and its bytes there, as long as FilePage.sequence is …
        .field  sequence, 4             ; … this
        .field  delta, 4                ; lower half of a position + delta = its address, once that is known
        .field  near, 4                 ; the size if delta is known and the window shows the whole file, else 0
        .ends

; file_open_to_write: as file_open, and whole pages of the file can be written to (file_write, or where file_peek says
; they are).  READ_ONLY if the file does not allow it, NO_SCRATCH if the machine does not.
file_open_to_write:
        mov     eax, OpenFlags.WRITE
        jmp     open_file

; file_open_from_start: as file_open, for a program that reads the file from there on and opens many in turn: the first
; data come with the answer.  For data that only system calls touch: file_read wants the handler that file_open sets.
file_open_from_start:
        push    ebx
        push    ecx
        push    edx
        push    esi
        push    edi
        mov     edx, OpenFlags.FROM_START
        jmp     open_handled

; file_open: open a file at its beginning.
;   in:        ebx  File; esi  path, ecx  bytes of it
;   out:       CF=0                    CF=1  eax  ErrorCode
;   clobbers:  eax, flags
file_open:
        xor     eax, eax
open_file:
        push    ebx
        push    ecx
        push    edx
        push    esi
        push    edi
        push    ebx
        push    eax
        push    esi

        ; A page that is unavailable in the middle of a copy is an error of file_read or file_write.
        mov     ebx, file_lost
        mov     esi, file_read_copy
        mov     edi, file_write_copied
        SYSTEM  FILE_HANDLER
        pop     esi
        pop     edx
        pop     ebx
open_handled:
        push    ebx
        SYSTEM  OPEN
        pop     ebx
        jc      .failed
        mov     [ebx + File.handle], eax
        mov     [ebx + File.page], esi
        mov     [ebx + File.window], edi
        xor     eax, eax
        mov     [ebx + File.base], eax
        mov     [ebx + File.base + 4], eax
        mov     [ebx + File.position], eax
        mov     [ebx + File.position + 4], eax
        mov     [ebx + File.start], eax
        mov     [ebx + File.start + 4], eax
        mov     [ebx + File.length], eax
        mov     [ebx + File.near], eax
        dec     eax
        mov     [ebx + File.sequence], eax
        clc
.failed:
        pop     edi
        pop     esi
        pop     edx
        pop     ecx
        pop     ebx
        ret

; file_close: close a file.
;   in:        ebx  File
;   out:       CF=1  eax  ErrorCode
;   clobbers:  eax, flags
file_close:
        push    ebx
        mov     ebx, [ebx + File.handle]
        SYSTEM  CLOSE
        pop     ebx
        ret

; file_size: the file's size.
;   in:        ebx  File
;   out:       edx:eax  bytes
;   clobbers:  flags
file_size:
        push    ecx
        mov     ecx, [ebx + File.page]
        mov     eax, [ecx + FilePage.size]
        mov     edx, [ecx + FilePage.size + 4]
        pop     ecx
        ret

; file_seek: set the position; beyond the end is allowed, where there are no data.
;   in:        ebx  File; edx:eax  bytes from the beginning
;   clobbers:  nothing
file_seek:
        mov     [ebx + File.position], eax
        mov     [ebx + File.position + 4], edx
        ret

; file_peek: where the data at the position lies, and how much of it in one piece.  Copies nothing, and leaves the
; position alone.
;   in:        ebx  File
;   out:       CF=0  eax  address, ecx  bytes there; 0 at the end of the file
;              CF=1  eax  ErrorCode
;   clobbers:  eax, ecx, edx, flags
file_peek:
        ; The area used last, if the page has not changed since.
        mov     eax, [ebx + File.position]
        mov     ecx, eax
        sub     ecx, [ebx + File.start]
        sub     ecx, [ebx + File.length]
        jae     find_area
        mov     edx, [ebx + File.position + 4]
        cmp     edx, [ebx + File.start + 4]
        jne     find_area
        mov     edx, [ebx + File.page]
        mov     edx, [edx + FilePage.sequence]
        cmp     edx, [ebx + File.sequence]
        jne     find_area
        neg     ecx
        add     eax, [ebx + File.delta]
        clc
        ret

; Bisection in steps that are always the same: of FILE_AREAS areas, and the one before them that holds nothing, the
; last that begins at or before the position.  Each step halves what the steps after it can reach.  Areas that are not
; in use begin after all positions.
        .macro  BISECT  step
        .irp    areas, 125, 63, 31, 16, 8, 4, 2, 1
        \step   \areas
        .endr
        .endm

        .assert 125 + 63 + 31 + 16 + 8 + 4 + 2 + 1 == FILE_AREAS, "the steps reach the last area and no further"
        .assert FilePage.none + sizeof(FileArea) == FilePage.areas, "the area before all others"

        .macro  NEAR_STEP areas
        cmp     eax, [edi + FileArea.position + \areas * sizeof(FileArea)]
        jb      .before_\areas
        add     edi, \areas * sizeof(FileArea)
.before_\areas:
        .endm

        .macro  FAR_STEP areas
        cmp     eax, [edi + FileArea.position + \areas * sizeof(FileArea)]
        mov     ecx, edx
        sbb     ecx, [edi + FileArea.position + 4 + \areas * sizeof(FileArea)]
        jb      .before_\areas
        add     edi, \areas * sizeof(FileArea)
.before_\areas:
        .endm

        .include "file_area.asm"

; file_read: copy from the position on, and move the position.
;   in:        ebx  File; edi  where to, ecx  bytes
;   out:       CF=0  eax  bytes copied: fewer at the end of the file, or before data that cannot be read
;              CF=1  eax  ErrorCode, nothing was copied
;   clobbers:  eax, ecx, edx, flags
file_read:
        MOVE_FILE file_read, esi, MOVE_READ

; file_write: change what the file has from the position on, and move the position.  The file must have been opened by
; file_open_to_write.  Only its whole pages can be written to: not its last bytes, nor holes, nor data that the server
; makes.
;   in:        ebx  File; esi  where from, ecx  bytes
;   out:       CF=0  eax  bytes changed: fewer at the end of the file, or before data that cannot be changed
;              CF=1  eax  ErrorCode, nothing was changed
;   clobbers:  eax, ecx, edx, flags
file_write:
        MOVE_FILE file_write, edi, MOVE_WRITE

; The kernel resumes here when a page is unavailable in the middle of a piece, which is then copied in part.
file_lost:
        .frame  like file_read_copy
        mov     ecx, edi
        mov     edx, [esp + 12]
        cmp     dword ptr [esp + 4], MOVE_WRITE
        jne     .advanced
        mov     ecx, esi
        mov     edx, [esp + 16]
.advanced:
        sub     ecx, edx
        mov     edx, ecx
        sub     edx, [esp]
        mov     [esp], ecx
        add     [ebx + File.position], edx
        adc     dword ptr [ebx + File.position + 4], 0
file_not_moved:
        cmp     dword ptr [esp], 0
        jne     file_moved
        add     esp, 8
        stc
        jmp     file_move_end
file_moved:
        pop     eax
        add     esp, 4
        clc
file_move_end:
        pop     ebp
        pop     edi
        pop     esi
        ret
