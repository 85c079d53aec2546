; The listings of ls and dir: a directory, or the names of one that match a pattern, or one file.

; load_listing: read the entries that a word names, by default those of the current directory.
;   in:        ebp  index of the word, which may be missing
;   out:       CF=0  entries, entry_count, to be given back by free_directory; filter  0 = a whole directory;
;                    path  the directory; named  the word
;              CF=1  eax  STATUS_FAILED; the error has been reported
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
load_listing:
        push    ebp
        mov     esi, here
        cmp     ebp, [word_count]
        jae     .given
        mov     esi, [words + ebp * 4]
.given:
        mov     [named], esi
        mov     dword ptr [filter], 0
        mov     dword ptr [listing_error], 0
        call    is_pattern
        je      .filtered
        call    resolve_path
        mov     eax, ErrorCode.NAME_TOO_LONG
        jc      .failed
        call    read_directory
        jnc     .done
        mov     [listing_error], eax
        cmp     eax, ErrorCode.NOT_FOUND
        je      .filtered
        cmp     eax, ErrorCode.NAME_TOO_LONG
        je      .filtered
        cmp     eax, ErrorCode.NOT_DIRECTORY
        jne     .failed

        ; A file, or a link that leads nowhere or to a name that is too long: its entry in the directory that it lies in.
.filtered:
        mov     esi, [named]
        call    open_pattern
        jc      .reported
        mov     [filter], edi
        call    filter_entries
        cmp     dword ptr [entry_count], 0
        jne     .done
        call    free_directory
        mov     eax, [listing_error]
        cmp     eax, ErrorCode.NOT_FOUND
        je      .failed
        cmp     eax, ErrorCode.NAME_TOO_LONG
        je      .failed
        mov     esi, [named]
        call    report_no_match
        jmp     .reported
.failed:
        mov     esi, [named]
        call    report
.reported:
        stc
.done:
        pop     ebp
        ret

; filter_entries: keep the entries that match a pattern, in their order.
;   in:        edi  pattern
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
filter_entries:
        mov     eax, edi
        mov     ebx, [entries]
        mov     edx, ebx
        mov     ecx, [entry_count]
        mov     dword ptr [entry_count], 0
        jecxz   .done
.next:
        mov     esi, [ebx]
        add     ebx, 4
        call    match_entry
        jne     .dropped
        mov     [edx], esi
        add     edx, 4
        inc     dword ptr [entry_count]
.dropped:
        dec     ecx
        jnz     .next
.done:
        ret

; match_entry: does an entry's name match a pattern?
;   in:        eax  pattern, esi  DirectoryEntry
;   out:       ZF=1 if it does
;   clobbers:  flags
match_entry:
        push    ecx
        push    esi
        push    edi
        movzx   ecx, word ptr [esi + DirectoryEntry.name_length]
        lea     edi, [esi + DIRECTORY_NAME_OFFSET]
        mov     esi, eax
        call    match_name
        pop     edi
        pop     esi
        pop     ecx
        ret

; put_name: append an entry's name; control characters become question marks.
;   in:        edi  DirectoryEntry
;   clobbers:  eax, ecx, esi, flags
put_name:
        movzx   ecx, word ptr [edi + DirectoryEntry.name_length]
        lea     esi, [edi + DIRECTORY_NAME_OFFSET]

; put_text: append UTF-8 text of any origin; control characters become question marks.
;   in:        esi  address, ecx  bytes
;   clobbers:  eax, ecx, esi, flags
put_text:
        jecxz   .done
.next:
        lodsb
        cmp     al, 32
        jb      .control
        cmp     al, 127
        je      .control
        cmp     al, 0xc2                ; U+0080 to U+009F, control characters of 8-bit terminals
        jne     .put
        cmp     ecx, 1
        je      .put
        cmp     byte ptr [esi], 0xa0
        jae     .put
        inc     esi
        dec     ecx
.control:
        mov     al, '?'
.put:
        call    put_character
        dec     ecx
        jnz     .next
.done:
        ret

        .rodata
here:
        .asciz  "."
        .bss
        .align 4
named:
        .space  4
filter:
        .space  4
listing_error:
        .space  4
        .text
