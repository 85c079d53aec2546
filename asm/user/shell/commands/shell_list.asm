; ls.

; command_ls: `ls [-l] [PATH…]`.
;   in:        ebx  Command
;   out:       eax  status
command_ls:
        mov     ebp, 1
        mov     dword ptr [long_form], 0
        mov     dword ptr [list_status], 0
.option:
        cmp     ebp, [word_count]
        jae     .list
        mov     esi, [words + ebp * 4]
        cmp     byte ptr [esi], '-'
        jne     .list
        mov     edi, long_switch
        call    same_word
        jne     put_usage
        mov     dword ptr [long_form], 1
        inc     ebp
        jmp     .option

        ; With several paths every directory has a headline.
.list:
        mov     eax, [word_count]
        sub     eax, ebp
        cmp     eax, 2
        sbb     eax, eax
        mov     [single], eax
.path:
        call    load_listing
        jc      .failed
        cmp     dword ptr [single], 0
        jne     .entries
        cmp     dword ptr [filter], 0
        jne     .entries
        mov     esi, path
        call    put_string
        mov     al, ':'
        call    put_character
        call    newline
.entries:
        call    put_entries
        call    free_directory
        jmp     .next
.failed:
        mov     [list_status], eax
.next:
        inc     ebp
        cmp     ebp, [word_count]
        jb      .path
        mov     eax, [list_status]
        ret

; put_entries: list the entries, one a line.
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
put_entries:
        call    forget_targets
        xor     ebx, ebx
.next:
        cmp     ebx, [entry_count]
        jae     .done
        mov     eax, [entries]
        mov     edi, [eax + ebx * 4]
        cmp     dword ptr [long_form], 0
        je      .name
        call    put_attributes
        mov     eax, [edi + DirectoryEntry.size]
        mov     edx, [edi + DirectoryEntry.size + 4]
        mov     ecx, 12
        call    put_decimal
        call    put_space
        mov     eax, [edi + DirectoryEntry.modified]
        mov     edx, [edi + DirectoryEntry.modified + 4]
        call    put_date
        call    put_space
        call    put_name
        test    dword ptr [edi + DirectoryEntry.attributes], FileAttributes.SYMLINK
        jz      .end
        call    put_target
        jnc     .end
        call    newline
        push    eax
        call    report_link
        mov     [list_status], eax
        pop     eax
        cmp     eax, ErrorCode.INTERRUPTED
        je      .done
        jmp     .following
.name:
        call    put_name
.end:
        call    newline
.following:
        inc     ebx
        jmp     .next
.done:
        ret

; put_attributes: append `drhsa`, a dash for each that is not set.
;   in:        edi  DirectoryEntry
;   clobbers:  eax, ecx, esi, flags
put_attributes:
        mov     esi, attribute_letters
        test    dword ptr [edi + DirectoryEntry.attributes], FileAttributes.SYMLINK
        jz      .next
        mov     al, 'l'                 ; in the place of `d`
        add     esi, 5
        jmp     .put
.next:
        lodsd
        test    eax, eax
        jz      .done
        mov     ecx, eax
        lodsb
        test    [edi + DirectoryEntry.attributes], ecx
        jnz     .put
        mov     al, '-'
.put:
        call    put_character
        jmp     .next
.done:
        ret

        .rodata
long_switch:
        .asciz  "-l"
        .align 4
attribute_letters:
        .long   FileAttributes.DIRECTORY
        .byte   'd'
        .long   FileAttributes.READ_ONLY
        .byte   'r'
        .long   FileAttributes.HIDDEN
        .byte   'h'
        .long   FileAttributes.SYSTEM
        .byte   's'
        .long   FileAttributes.ARCHIVE
        .byte   'a'
        .long   0
        .bss
        .align 4
long_form:
        .space  4
list_status:
        .space  4
single:
        .space  4
        .text
