; Files for user programs: open, read, seek, size, peek, close.
;
; What is in memory is served without a system call: the file's page (FilePage) says which ranges are, and the
; window shows them.  A first touch of such a range in this process is a page fault, by which the kernel maps it
; and learns how the reader moves on.  Anything else is a MAP_FILE.
;
; A File is the program's own memory.  Errors come as CF=1 and EAX = ErrorCode; an unplugged disk is one of them,
; also in the middle of file_read.  A program that reads through pointers from file_peek is ended by the kernel if
; the page it touches is lost, unless it handles that itself (SystemCall.FILE_HANDLER).

        .struct File
        .field  handle, 4
        .field  page, 4                 ; FilePage
        .field  window, 4
        .field  base, 8                 ; of the file, at the beginning of the window
        .field  position, 8
        .field  low, 4                  ; the area used last, as offsets from base: from low …
        .field  high, 4                 ; … up to high
        .field  sequence, 4             ; … while FilePage.sequence is this
        .ends

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
        mov     ebx, file_fault
        SYSTEM  FILE_HANDLER
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
        mov     [ebx + File.low], eax
        mov     [ebx + File.high], eax
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
        mov     edx, [ebx + File.page]
        mov     ecx, [edx + FilePage.sequence]
        cmp     ecx, [ebx + File.sequence]
        jne     .look
        mov     eax, [ebx + File.position]
        mov     edx, [ebx + File.position + 4]
        sub     eax, [ebx + File.base]
        sbb     edx, [ebx + File.base + 4]
        jne     .look
        mov     ecx, [ebx + File.high]
        cmp     eax, [ebx + File.low]
        jb      .look
        sub     ecx, eax
        jbe     .look
        mov     edx, [ebx + File.page]
        add     eax, [ebx + File.window]
        add     eax, [edx + FilePage.shift]
        clc
        ret

.look:
        call    find_area
        jc      .absent
        ret
.absent:
        test    eax, eax
        stc
        jnz     .done

        ; Not in memory, or not in the window.  The kernel answers with the address, which says where the window
        ; begins now.
        push    ebx
        push    esi
        mov     esi, [ebx + File.position]
        mov     edx, [ebx + File.position + 4]
        mov     ebx, [ebx + File.handle]
        mov     ecx, 1
        SYSTEM  MAP_FILE
        pop     esi
        pop     ebx
        jc      .done
        push    eax
        mov     edx, [ebx + File.page]
        sub     eax, [ebx + File.window]
        sub     eax, [edx + FilePage.shift]
        mov     edx, [ebx + File.position]
        sub     edx, eax
        mov     [ebx + File.base], edx
        mov     edx, [ebx + File.position + 4]
        sbb     edx, 0
        mov     [ebx + File.base + 4], edx
        mov     dword ptr [ebx + File.sequence], -1
        pop     eax
        clc
.done:
        ret

; find_area: look the position up in the file's page, by bisection, and remember the area.
;   in:        ebx  File
;   out:       CF=0  eax  address, ecx  bytes there; 0 at the end of the file
;              CF=1  eax  ErrorCode, 0 = it is not in memory or not in the window
;   clobbers:  edx, flags
find_area:
        push    esi
        push    edi
        push    ebp
        mov     esi, [ebx + File.page]
.again:
        mov     eax, [esi + FilePage.sequence]
        mov     [ebx + File.sequence], eax
        cmp     dword ptr [esi + FilePage.valid], 0
        je      .invalid
        mov     eax, [ebx + File.position]
        mov     edx, [ebx + File.position + 4]
        cmp     eax, [esi + FilePage.size]
        mov     ecx, edx
        sbb     ecx, [esi + FilePage.size + 4]
        jae     .end

        ; The first ECX areas begin at or before the position, those from EDI on behind it.
        xor     ecx, ecx
        mov     edi, [esi + FilePage.count]
        add     esi, FilePage.areas
        test    edx, edx
        jnz     .far
        jmp     .near
.lower:
        mov     edi, ebp
.near:
        cmp     ecx, edi
        jae     .found
        lea     ebp, [ecx + edi]
        shr     ebp, 1
        lea     edx, [ebp * 8]
        cmp     [esi + edx * 2 + FileArea.position], eax
        ja      .lower
        lea     ecx, [ebp + 1]
        jmp     .near

.far_lower:
        mov     edi, ebp
.far:
        cmp     ecx, edi
        jae     .found
        lea     ebp, [ecx + edi]
        shr     ebp, 1
        push    ebp
        add     ebp, ebp
        cmp     [esi + ebp * 8 + FileArea.position + 4], edx
        jne     .uppers_differ
        cmp     [esi + ebp * 8 + FileArea.position], eax
.uppers_differ:
        pop     ebp
        ja      .far_lower
        lea     ecx, [ebp + 1]
        jmp     .far

.found:
        sub     ecx, 1
        jc      .absent
        shl     ecx, FILE_AREA_SHIFT
        add     esi, ecx

        ; As offsets from the window's base: both ends of the area, cut to the window.
        mov     eax, [esi + FileArea.position]
        mov     edx, [esi + FileArea.position + 4]
        mov     ecx, [esi + FileArea.length]
        sub     eax, [ebx + File.base]
        sbb     edx, [ebx + File.base + 4]
        jne     .astride
.cut:
        mov     esi, [ebx + File.page]
        mov     [ebx + File.low], eax
        add     eax, ecx
        mov     edx, FILE_WINDOW_BYTES
        sub     edx, [esi + FilePage.shift]
        cmp     eax, edx
        ja      .longer
.ends:
        mov     [ebx + File.high], eax
        mov     ecx, eax
        mov     eax, [ebx + File.position]
        sub     eax, [ebx + File.base]
        sub     ecx, eax
        jbe     .absent
        add     eax, [ebx + File.window]
        add     eax, [esi + FilePage.shift]
        mov     edx, [ebx + File.sequence]
        cmp     edx, [esi + FilePage.sequence]
        jne     .again
        clc
.done:
        pop     ebp
        pop     edi
        pop     esi
        ret

.longer:
        mov     eax, edx
        jmp     .ends
.astride:
        ; The area begins before the window.
        add     ecx, eax
        xor     eax, eax
        cmp     edx, -1
        je      .cut_begun
.absent:
        mov     dword ptr [ebx + File.sequence], -1
        xor     eax, eax
        stc
        jmp     .done
.cut_begun:
        ; ECX is what of it lies in the window; more than an area's length means that nothing does.
        cmp     ecx, [esi + FileArea.length]
        ja      .absent
        mov     edx, [ebx + File.position + 4]
        cmp     edx, [ebx + File.base + 4]
        jb      .absent
        jmp     .cut

.end:
        xor     eax, eax
        xor     ecx, ecx
        jmp     .done
.invalid:
        mov     eax, [esi + FilePage.error]
        stc
        jmp     .done

; file_read: copy from the position on, and move the position.
;   in:        ebx  File; edi  where to, ecx  bytes
;   out:       CF=0  eax  bytes copied: fewer at the end of the file
;              CF=1  eax  ErrorCode; the position is behind what was copied before
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
        add     esp, 4
        stc
file_read_end:
        pop     ebp
        pop     edi
        pop     esi
        ret

; file_fault: a page of a file could not be had.  In file_read that is an error of the call; elsewhere the touch is
; made again, and the kernel ends the process with a report.
;   in:        eax  ErrorCode, ecx  the instruction that touched it
file_fault:
        cmp     ecx, file_copy
        jb      .elsewhere
        cmp     ecx, file_copied
        jb      file_read_failed
.elsewhere:
        push    ecx
        xor     ebx, ebx
        SYSTEM  FILE_HANDLER
        ret
