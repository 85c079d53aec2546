; dir.

; command_dir: `dir [PATH…]`, with totals and the volume's free space.
;   out:       eax  status
command_dir:
        mov     ebp, 1
        mov     dword ptr [list_status], 0
.path:
        call    load_listing
        jnc     .listed
        mov     [list_status], eax
        jmp     .next
.listed:
        call    put_directory
.next:
        inc     ebp
        cmp     ebp, [word_count]
        jb      .path
        mov     eax, [list_status]
        ret

; put_directory: show what load_listing has read, with totals, and give it back.
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
put_directory:
        mov     esi, directory_of
        call    put_string
        mov     esi, path
        call    put_line
        xor     ebx, ebx
        mov     dword ptr [total], 0
        mov     dword ptr [total + 4], 0
        mov     dword ptr [files], 0
.entry:
        cmp     ebx, [entry_count]
        jae     .totals
        mov     eax, [entries]
        mov     edi, [eax + ebx * 4]
        mov     eax, [edi + DirectoryEntry.modified]
        mov     edx, [edi + DirectoryEntry.modified + 4]
        call    put_date
        test    dword ptr [edi + DirectoryEntry.attributes], FileAttributes.DIRECTORY
        jz      .file
        mov     esi, directory_mark
        call    put_string
        jmp     .name
.file:
        inc     dword ptr [files]
        mov     eax, [edi + DirectoryEntry.size]
        mov     edx, [edi + DirectoryEntry.size + 4]
        add     [total], eax
        adc     [total + 4], edx
        mov     ecx, 15
        call    put_decimal
.name:
        call    put_space
        call    put_space
        call    put_name
        call    newline
        inc     ebx
        jmp     .entry

.totals:
        mov     eax, [files]
        xor     edx, edx
        mov     ecx, 8
        call    put_decimal
        mov     esi, files_word
        call    put_string
        mov     eax, [total]
        mov     edx, [total + 4]
        mov     ecx, 14
        call    put_decimal
        mov     esi, bytes_word
        call    put_line
        mov     eax, [entry_count]
        sub     eax, [files]
        xor     edx, edx
        mov     ecx, 8
        call    put_decimal
        mov     esi, directories_word
        call    put_string
        call    path_volume
        jc      .none
        call    free_bytes
        mov     ecx, 8
        call    put_free
        mov     esi, free_word
        call    put_string
.none:
        call    newline
        jmp     free_directory

        .rodata
directory_of:
        .asciz  "Directory of "
directory_mark:
        .asciz  "      <DIR>    "
files_word:
        .asciz  " file(s)"
bytes_word:
        .asciz  " bytes"
directories_word:
        .asciz  " dir(s)       "
free_word:
        .asciz  " bytes free"
        .bss
        .align 4
files:
        .space  4
total:
        .space  8
        .text
