; Files for user programs: open, read, seek, size, peek, close.
;
; What is in memory is served without a system call: the file's page (FilePage) says which ranges are, and the
; window shows them.  A first touch of such a range in this process is a page fault, by which the kernel maps it
; and learns how the reader moves on.  Anything else is a MAP_FILE.
;
; A File is the program's own memory.  Errors come as CF=1 and EAX = ErrorCode; an unplugged disk is one of them,
; also in the middle of file_read.  A program that reads through pointers from file_peek is ended by the kernel if
; the page it touches is lost.

        .struct File
        .field  handle, 4
        .field  page, 4                 ; FilePage
        .field  window, 4
        .field  base, 8                 ; of the file, at the beginning of the window
        .field  position, 8
        .field  start, 8                ; the area used last: its first byte within the window …
        .field  length, 4               ; … and its bytes there, as long as FilePage.sequence is …
        .field  sequence, 4             ; … this
        .field  delta, 4                ; lower half of a position + delta = its address
        .ends

; A file that one window can show from end to end, whatever its shift.
WINDOW_SURE = FILE_WINDOW_BYTES - PAGE_SIZE

; file_open: open a file at its beginning.
;   in:        ebx  File; esi  path, ecx  bytes of it
;   out:       CF=0                    CF=1  eax  ErrorCode
;   clobbers:  eax, flags
file_open:
        push    ebx
        push    ecx
        push    edx
        push    esi
        push    edi
        push    ebx
        push    esi

        ; What cannot be had in the middle of a copy is an error of file_read.
        mov     ebx, file_read_failed
        mov     esi, file_copy
        mov     edi, file_copied
        SYSTEM  FILE_HANDLER
        pop     esi
        pop     ebx
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
        mov     dword ptr [ebx + File.sequence], -1
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

; file_seek: set the position; beyond the end is allowed, nothing is there.
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

; find_area: file_peek by the file's page: guess which area holds the position, from where it is in the file; if
; the guess is wrong, by bisection.  The area is remembered.
find_area:
        push    esi
        push    edi
        mov     esi, [ebx + File.page]
find_area_again:
        mov     eax, [esi + FilePage.sequence]
        test    al, 1
        jnz     find_area_again         ; the kernel is writing, on another CPU
        mov     [ebx + File.sequence], eax
        mov     edi, [esi + FilePage.count]
        mov     eax, [ebx + File.position]
        mov     ecx, [ebx + File.position + 4]
        or      ecx, [esi + FilePage.size + 4]
        jnz     area_far
        cmp     eax, [esi + FilePage.size]
        jae     area_end
        test    edi, edi
        jz      area_absent

        ; If the file has been read in order, areas follow each other and all but the last have one length.
        xor     edx, edx
        div     dword ptr [esi + FilePage.areas + FileArea.length]
        cmp     eax, edi
        jae     area_near
        shl     eax, FILE_AREA_SHIFT
        lea     edi, [esi + eax + FilePage.areas]
        mov     ecx, [ebx + File.position]
        sub     ecx, [edi + FileArea.position]
        cmp     ecx, [edi + FileArea.length]
        jae     area_near

; EDI is the area, ESI the file's page.
area_found:
        cmp     dword ptr [esi + FilePage.size + 4], 0
        jne     area_cut
        cmp     dword ptr [esi + FilePage.size], WINDOW_SURE
        ja      area_cut
        mov     eax, [edi + FileArea.position]
        mov     ecx, [edi + FileArea.length]
        mov     [ebx + File.start], eax
        mov     [ebx + File.length], ecx
        add     ecx, eax
        mov     eax, [ebx + File.window]
        add     eax, [esi + FilePage.shift]
        mov     [ebx + File.delta], eax
        mov     edx, [ebx + File.position]
        sub     ecx, edx
        add     eax, edx
area_done:
        mov     edx, [ebx + File.sequence]
        cmp     edx, [esi + FilePage.sequence]
        jne     find_area_again
        pop     edi
        pop     esi
        clc
        ret

; A file larger than a window: the area is cut to what the window shows of it.
area_cut:
        ; EDX:EAX = the area's beginning, not before the window's; ECX = what is left of the area there.
        mov     eax, [edi + FileArea.position]
        mov     edx, [edi + FileArea.position + 4]
        mov     ecx, [edi + FileArea.length]
        cmp     eax, [ebx + File.base]
        mov     edi, edx
        sbb     edi, [ebx + File.base + 4]
        jae     .begins
        add     ecx, eax
        sub     ecx, [ebx + File.base]
        mov     eax, [ebx + File.base]
        mov     edx, [ebx + File.base + 4]
.begins:
        mov     [ebx + File.start], eax
        mov     [ebx + File.start + 4], edx
        sub     eax, [ebx + File.base]
        sbb     edx, [ebx + File.base + 4]
        jne     area_absent
        mov     edi, FILE_WINDOW_BYTES
        sub     edi, [esi + FilePage.shift]
        sub     edi, eax
        jbe     area_absent
        cmp     ecx, edi
        jbe     .whole
        mov     ecx, edi
.whole:
        mov     [ebx + File.length], ecx
        mov     eax, [ebx + File.window]
        add     eax, [esi + FilePage.shift]
        sub     eax, [ebx + File.base]
        mov     [ebx + File.delta], eax

        ; The position must lie in what is left.
        mov     eax, [ebx + File.position]
        mov     edx, [ebx + File.position + 4]
        sub     eax, [ebx + File.start]
        sbb     edx, [ebx + File.start + 4]
        jne     area_absent
        sub     ecx, eax
        jbe     area_absent
        mov     eax, [ebx + File.position]
        add     eax, [ebx + File.delta]
        jmp     area_done

; Bisection: the last area that begins at or before the position.  Areas up to ECX do, those from EDX on do not.
area_far:
        mov     edx, [ebx + File.position + 4]
        cmp     eax, [esi + FilePage.size]
        sbb     edx, [esi + FilePage.size + 4]
        jae     area_end
area_near:
        push    ebp
        xor     ecx, ecx
        mov     edx, [esi + FilePage.count]
.next:
        cmp     ecx, edx
        jae     .found
        lea     edi, [ecx + edx]
        shr     edi, 1
        mov     ebp, edi
        shl     ebp, FILE_AREA_SHIFT
        lea     ebp, [esi + ebp + FilePage.areas]
        mov     eax, [ebx + File.position]
        cmp     eax, [ebp + FileArea.position]
        mov     eax, [ebx + File.position + 4]
        sbb     eax, [ebp + FileArea.position + 4]
        jb      .before
        lea     ecx, [edi + 1]
        jmp     .next
.before:
        mov     edx, edi
        jmp     .next
.found:
        pop     ebp
        sub     ecx, 1
        jc      area_absent
        shl     ecx, FILE_AREA_SHIFT
        lea     edi, [esi + ecx + FilePage.areas]
        mov     eax, [ebx + File.position]
        mov     edx, [ebx + File.position + 4]
        sub     eax, [edi + FileArea.position]
        sbb     edx, [edi + FileArea.position + 4]
        jne     area_absent
        cmp     eax, [edi + FileArea.length]
        jb      area_found

; Not in memory, or not in the window.  The kernel answers with the address, which says where the window begins now.
area_absent:
        mov     edi, ebx
        mov     esi, [edi + File.position]
        mov     edx, [edi + File.position + 4]
        mov     ebx, [edi + File.handle]
        mov     ecx, 1
        SYSTEM  MAP_FILE
        mov     ebx, edi
        mov     dword ptr [ebx + File.sequence], -1
        jc      .failed
        mov     esi, [ebx + File.page]
        mov     edx, eax
        sub     edx, [ebx + File.window]
        sub     edx, [esi + FilePage.shift]
        mov     esi, [ebx + File.position]
        sub     esi, edx
        mov     [ebx + File.base], esi
        mov     edx, [ebx + File.position + 4]
        sbb     edx, 0
        mov     [ebx + File.base + 4], edx
        clc
.failed:
        pop     edi
        pop     esi
        ret

; A file that has been taken away has no areas; that it is not just at its end is looked at only here.
area_end:
        cmp     dword ptr [esi + FilePage.valid], 0
        je      area_invalid
        xor     eax, eax
        xor     ecx, ecx
        pop     edi
        pop     esi
        ret

area_invalid:
        mov     eax, [esi + FilePage.error]
        pop     edi
        pop     esi
        stc
        ret

; file_read: copy from the position on, and move the position.
;   in:        ebx  File; edi  where to, ecx  bytes
;   out:       CF=0  eax  bytes copied: fewer at the end of the file, or before what cannot be read
;              CF=1  eax  ErrorCode, nothing was copied
;   clobbers:  eax, ecx, edx, flags
file_read:
        push    esi
        push    edi
        push    ebp
        mov     ebp, ecx
        push    0                       ; bytes copied
.next:
        test    ebp, ebp
        jz      file_read_done
        call    file_peek
        jc      file_read_failed
        test    ecx, ecx
        jz      file_read_done
        cmp     ecx, ebp
        jbe     .some
        mov     ecx, ebp
.some:
        mov     esi, eax
        mov     edx, ecx
        mov     eax, ecx
        and     ecx, 3
        shr     eax, 2
        xchg    eax, ecx
file_copy:
        rep     movsd
        mov     ecx, eax
        rep     movsb
file_copied:
        sub     ebp, edx
        add     [esp], edx
        add     [ebx + File.position], edx
        adc     dword ptr [ebx + File.position + 4], 0
        jmp     file_read.next

file_read_done:
        pop     eax
        clc
        jmp     file_read_end
file_read_failed:
        cmp     dword ptr [esp], 0
        jne     file_read_done
        add     esp, 4
        stc
file_read_end:
        pop     ebp
        pop     edi
        pop     esi
        ret
