; Words that name files: the directory of the last part, how its volume compares names, and the error when there is
; none.

; word_directory: find the directory in which the last part of a path lies.
;   in:        esi  path as typed
;   out:       path, ecx  the directory; edi  the last part; prefix  what was typed before it
;              CF=1  the path is too long
;   clobbers:  eax, flags
word_directory:
        push    esi
        mov     edi, esi
.next:
        lodsb
        test    al, al
        jz      .found
        cmp     al, '/'
        je      .separator
        cmp     al, '\\'
        jne     .next
.separator:
        mov     edi, esi
        jmp     .next
.found:
        pop     esi
        push    esi
        mov     ecx, edi
        sub     ecx, esi
        cmp     ecx, PATH_SIZE
        jae     .long
        push    edi
        mov     edi, prefix
        rep movsb
        mov     byte ptr [edi], 0
        pop     edi
        mov     esi, prefix
        cmp     byte ptr [esi], 0
        jne     .resolve
        mov     esi, here
.resolve:
        call    resolve_path
        pop     esi
        ret
.long:
        pop     esi
        stc
        ret

; open_pattern: read the directory in which the last part of a path lies, to match its names.
;   in:        esi  path as typed
;   out:       CF=0  edi  the last part; entries, entry_count; match_case  as the volume has it
;              CF=1  eax  STATUS_FAILED; the error has been reported
;   clobbers:  eax, ebx, ecx, edx, esi, flags
open_pattern:
        push    ebp
        push    esi
        call    word_directory
        mov     eax, ErrorCode.NAME_TOO_LONG
        jc      .failed
        mov     esi, prefix
        call    is_pattern
        je      .misplaced
        push    edi
        push    ecx
        call    volume_case
        pop     ecx
        call    read_directory
        pop     edi
        jc      .failed
        pop     esi
        pop     ebp
        ret
.misplaced:
        pop     esi
        mov     edi, misplaced
        call    report_word
        pop     ebp
        stc
        ret
.failed:
        pop     esi
        call    plain_word
        call    report
        pop     ebp
        stc
        ret

; volume_case: set match_case by the volume that `path` lies on.
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
volume_case:
        mov     byte ptr [match_case], 0
        call    path_volume
        jc      .done
        test    dword ptr [volume + VolumeInformation.flags], VolumeFlags.CASE_SENSITIVE
        setnz   [match_case]
.done:
        ret

; report_no_match: say that nothing matches.
;   in:        esi  word
;   out:       eax  STATUS_FAILED
;   clobbers:  edi, flags
report_no_match:
        mov     edi, no_match

; report_word: say what is wrong with a word; `words[0]` is the command.
;   in:        esi  word, edi  text
;   out:       eax  STATUS_FAILED
;   clobbers:  flags
report_word:
        push    esi
        call    plain_word
        mov     esi, [words]
        call    put_string
        mov     esi, colon
        call    put_string
        pop     esi
        push    esi
        call    put_string
        mov     esi, edi
        call    put_line
        pop     esi
        mov     eax, STATUS_FAILED
        ret

; report_mistake: the same of a word that the command cannot take, whatever files there are.
;   in:        esi  word, edi  text
;   out:       eax  STATUS_USAGE
;   clobbers:  flags
report_mistake:
        call    report_word
        mov     eax, STATUS_USAGE
        ret

        .rodata
no_match:
        .asciz  ": no such file"
misplaced:
        .asciz  ": wildcards are for the last part of a path"
        .bss
prefix:
        .space  PATH_SIZE
        .text
