; Where symbolic links lead, for ls -l.

TARGET_SIZE = MESSAGE_DATA_SIZE         ; no server can send more than that

; put_target: append ` -> TARGET` for a symbolic link; nothing if its server does not say where links lead.
;   in:        edi  DirectoryEntry, path  its directory
;   out:       CF=1  eax  ErrorCode: it cannot be read, nothing has been appended
;              link_path, link_length  the link
;   clobbers:  eax, ecx, edx, esi, flags
put_target:
        push    edi
        mov     edx, edi
        mov     edi, link_path
        mov     esi, path
        call    length
        rep movsb
        cmp     byte ptr [path + 1], 0
        je      .name
        mov     byte ptr [edi], '/'
        inc     edi
.name:
        movzx   ecx, word ptr [edx + DirectoryEntry.name_length]
        lea     esi, [edx + DIRECTORY_NAME_OFFSET]
        cmp     ecx, DIRECTORY_NAME_LIMIT
        jbe     .whole
        mov     ecx, DIRECTORY_NAME_LIMIT       ; a server may send more
.whole:
        rep movsb
        mov     esi, link_path
        mov     ecx, edi
        sub     ecx, esi
        mov     [link_length], ecx
        mov     edi, target
        mov     edx, TARGET_SIZE
        SYSTEM  READ_LINK
        jc      .failed
        mov     ecx, eax
        mov     esi, arrow
        call    put_string
        mov     esi, target
        call    put_text
        clc
        pop     edi
        ret
.failed:
        pop     edi
        cmp     eax, ErrorCode.NOT_SUPPORTED
        je      .done
        stc
.done:
        ret

; report_link: say why the link of put_target cannot be read.
;   in:        eax  ErrorCode
;   out:       eax  STATUS_FAILED
;   clobbers:  ecx, esi, flags
report_link:
        cmp     eax, ErrorCode.INTERRUPTED
        je      report_break
        push    eax
        mov     esi, [words]
        call    put_string
        mov     esi, colon
        call    put_string
        mov     esi, link_path
        mov     ecx, [link_length]
        call    put_text
        pop     eax
        jmp     put_error

        .rodata
arrow:
        .asciz  " -> "
        .bss
        .align 4
link_length:
        .space  4
link_path:
        .space  PATH_SIZE + DIRECTORY_NAME_LIMIT
target:
        .space  TARGET_SIZE
        .text
