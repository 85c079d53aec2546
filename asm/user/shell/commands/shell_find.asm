; find.

; command_find: `find NAME [PATH]`: the paths of everything below PATH whose name matches.
;   out:       eax  status: 0 if there is something and everything could be read
command_find:
        mov     esi, [words + 4]
        mov     edi, no_path
        call    has_separator
        je      report_word
        mov     esi, here
        cmp     dword ptr [word_count], 3
        jb      .given
        mov     esi, [words + 8]
        call    plain_word
.given:
        mov     [named], esi
        call    resolve_path
        mov     eax, ErrorCode.NAME_TOO_LONG
        jc      .failed
        mov     dword ptr [find_found], 0
        mov     dword ptr [walk_entry], find_entry
        mov     dword ptr [walk_end], find_end
        mov     dword ptr [walk_error], find_error
        call    walk
        jc      .failed
        cmp     dword ptr [find_found], 0
        jne     .done
        test    eax, eax
        jnz     .done
        mov     esi, [words + 4]
        jmp     report_no_match
.done:
        ret
.failed:
        mov     esi, [named]
        jmp     report

; find_entry: show the path of an entry if its name matches.
;   in:        edi  DirectoryEntry
;   clobbers:  eax, ecx, esi, flags
find_entry:
        mov     eax, [words + 4]
        mov     esi, edi
        call    match_entry
        jne     find_end
        inc     dword ptr [find_found]
        call    put_entry_path
        call    newline
find_end:
        ret

; find_error: a directory cannot be read.
;   in:        eax  ErrorCode or WALK_…, edi  DirectoryEntry
;   clobbers:  eax, ecx, esi, flags
find_error:
        push    eax
        mov     esi, [words]
        call    put_string
        mov     esi, colon
        call    put_string
        call    put_entry_path
        pop     eax
        jmp     put_walk_error

; has_separator: does a word have a slash or a backslash?
;   in:        esi  word
;   out:       ZF=1 if it has
;   clobbers:  eax, flags
has_separator:
        push    esi
.next:
        lodsb
        cmp     al, '/'
        je      .done
        cmp     al, '\\'
        je      .done
        test    al, al
        jnz     .next
        or      al, 1
.done:
        pop     esi
        ret

        .rodata
no_path:
        .asciz  ": is a path; give a name, and the directory to look in after it"
        .bss
        .align  4
find_found:
        .space  4
        .text
