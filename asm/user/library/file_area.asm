; Where the data at a file's position lie: an area of the window, found in the file's page (FilePage) or by MAP_FILE.
; Part of file.asm.

; find_area: file_peek by the file's page, if the window shows the whole file. The area is remembered.
;   in:        eax  lower half of the position
find_area:
        cmp     dword ptr [ebx + File.position + 4], 0
        jne     find_far
        cmp     eax, [ebx + File.near]
        jae     find_far
        push    esi
        push    edi
        mov     esi, [ebx + File.page]
        mov     edx, [esi + FilePage.sequence]
        and     edx, -2                 ; odd while the kernel writes, on another CPU: then it will be another
        mov     [ebx + File.sequence], edx
        lea     edi, [esi + FilePage.none]
        BISECT  NEAR_STEP
        mov     ecx, [edi + FileArea.position]
        mov     [ebx + File.start], ecx
        mov     ecx, [edi + FileArea.length]
        mov     [ebx + File.length], ecx
        add     ecx, [edi + FileArea.position]
        sub     ecx, eax
        jbe     area_absent
        add     eax, [ebx + File.delta]
        cmp     edx, [esi + FilePage.sequence]
        jne     area_changed
        pop     edi
        pop     esi
        ret                             ; CF=0: the sequences are equal

; find_far: the same for any file: the area is cut to what the window shows of it.
find_far:
        push    esi
        push    edi
        mov     esi, [ebx + File.page]
        mov     eax, [ebx + File.position]
        mov     edx, [ebx + File.position + 4]
        cmp     eax, [esi + FilePage.size]
        mov     ecx, edx
        sbb     ecx, [esi + FilePage.size + 4]
        jae     area_end                ; the area that is remembered stays with its own sequence
        mov     ecx, [esi + FilePage.sequence]
        and     ecx, -2
        mov     [ebx + File.sequence], ecx
        lea     edi, [esi + FilePage.none]
        BISECT  FAR_STEP

        ; EAX = bytes of the area before the position, ECX = bytes from there on.
        sub     eax, [edi + FileArea.position]
        sbb     edx, [edi + FileArea.position + 4]
        jne     area_absent
        mov     ecx, [edi + FileArea.length]
        sub     ecx, eax
        jbe     area_absent

        ; The same of the window: EDI and EDX.  The lesser of each counts.
        mov     edi, [ebx + File.position]
        mov     edx, [ebx + File.position + 4]
        sub     edi, [ebx + File.base]
        sbb     edx, [ebx + File.base + 4]
        jne     area_absent
        mov     edx, FILE_WINDOW_BYTES
        sub     edx, [esi + FilePage.shift]
        sub     edx, edi
        jbe     area_absent
        cmp     ecx, edx
        jbe     .ends
        mov     ecx, edx
.ends:
        cmp     eax, edi
        jbe     .begins
        mov     eax, edi
.begins:
        lea     edx, [ecx + eax]
        mov     [ebx + File.length], edx
        mov     edi, [ebx + File.position]
        mov     edx, [ebx + File.position + 4]
        sub     edi, eax
        sbb     edx, 0
        mov     [ebx + File.start], edi
        mov     [ebx + File.start + 4], edx

        mov     edi, [ebx + File.window]
        add     edi, [esi + FilePage.shift]
        sub     edi, [ebx + File.base]
        mov     eax, [ebx + File.position]
        add     eax, edi
        mov     edx, [ebx + File.sequence]
        cmp     edx, [esi + FilePage.sequence]
        jne     area_changed
        mov     [ebx + File.delta], edi

; Delta is known: find_area looks up the next positions, if the window shows the whole file.
area_known:
        cmp     dword ptr [esi + FilePage.size + 4], 0
        jne     area_done
        mov     edx, FILE_WINDOW_BYTES
        sub     edx, [esi + FilePage.shift]
        cmp     edx, [esi + FilePage.size]
        jb      area_done
        mov     edx, [esi + FilePage.size]
        mov     [ebx + File.near], edx
area_done:
        pop     edi
        pop     esi
        clc
        ret

; The page has changed meanwhile: the area that was found cannot be trusted.
area_changed:
        pop     edi
        pop     esi
        mov     eax, [ebx + File.position]
        jmp     find_area

; Not in memory, or not in the window.  The kernel answers with the address, which says where the window begins now,
; and with the number of bytes there, valid while the page's sequence is the one returned.
area_absent:
        mov     edx, [ebx + File.sequence]
        cmp     edx, [esi + FilePage.sequence]
        jne     area_changed
        mov     edi, ebx
        mov     esi, [edi + File.position]
        mov     edx, [edi + File.position + 4]
        mov     ebx, [edi + File.handle]
        mov     ecx, 1
        mov     dword ptr [edi + File.sequence], -1
        SYSTEM  MAP_FILE
        mov     ebx, edi
        jc      area_failed
        jecxz   area_done               ; the file has become shorter
        mov     [ebx + File.length], ecx
        mov     [ebx + File.sequence], edx

        mov     edi, [ebx + File.position]
        mov     edx, [ebx + File.position + 4]
        mov     [ebx + File.start], edi
        mov     [ebx + File.start + 4], edx
        mov     esi, [ebx + File.page]
        mov     edx, eax
        sub     edx, edi
        mov     [ebx + File.delta], edx

        ; Base = position - (address - window - shift).
        mov     edx, eax
        sub     edx, [ebx + File.window]
        sub     edx, [esi + FilePage.shift]
        sub     edi, edx
        mov     [ebx + File.base], edi
        mov     edx, [ebx + File.start + 4]
        sbb     edx, 0
        mov     [ebx + File.base + 4], edx
        jmp     area_known

; A file whose disk or server has gone has no areas; only here is that distinguished from the end of the file.
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
area_failed:
        pop     edi
        pop     esi
        stc
        ret

MOVE_READ = 0
MOVE_WRITE = 1

; MOVE_FILE: file_read and file_write: copy piece by piece.
;   in_file    register for the piece's address; mode  MOVE_READ or MOVE_WRITE
        .macro  MOVE_FILE name, in_file, mode
        push    esi
        push    edi
        push    ebp
        mov     ebp, ecx
        push    \mode
        push    0                       ; bytes copied
.next:
        test    ebp, ebp
        jz      file_moved
        call    file_peek
        jc      file_not_moved
        test    ecx, ecx
        jz      file_moved
        cmp     ecx, ebp
        jbe     .some
        mov     ecx, ebp
.some:
        mov     \in_file, eax
        mov     edx, ecx

        ; Bytes up to a dword of the file, then dwords, then bytes: none lies in two pages of the file, of which only
        ; the first may be available.
        neg     eax
        and     eax, 3
        cmp     eax, ecx
        jbe     .aligns
        mov     eax, ecx
.aligns:
        sub     ecx, eax
        xchg    eax, ecx
\name\()_copy:
        rep     movsb
        mov     ecx, eax
        shr     ecx, 2
        rep     movsd
        mov     ecx, eax
        and     ecx, 3
        rep     movsb
\name\()_copied:
        sub     ebp, edx
        add     [esp], edx
        add     [ebx + File.position], edx
        adc     dword ptr [ebx + File.position + 4], 0
        jmp     \name\().next
        .endm
