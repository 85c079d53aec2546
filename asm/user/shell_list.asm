; Directories: locked, sorted and shown in user mode, from pages that the server built.

; read_directory: lock a directory and make a sorted array of its entries.
;   in:        path, ecx  its length
;   out:       CF=0  entries  array of DirectoryEntry addresses, entry_count, directory_lock
;              CF=1  eax  ErrorCode
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
read_directory:
        mov     esi, path
        SYSTEM  LOCK_DIRECTORY
        jc      .done
        mov     [directory_lock], edx
        mov     [pages], eax
        mov     [page_count], ecx
        mov     dword ptr [entries], 0
        mov     dword ptr [entry_count], 0

        ; Room for as many entries as the pages can hold at all, whatever the server says.
        imul    ecx, ecx, PAGE_SIZE / sizeof(DirectoryEntry) * 4
        jecxz   .empty
        SYSTEM  ALLOCATE
        jc      .failed
        mov     [entries], eax
        call    gather
        call    sort_entries
.empty:
        clc
.done:
        ret
.failed:
        push    eax
        mov     edx, [directory_lock]
        SYSTEM  UNLOCK_DIRECTORY
        pop     eax
        stc
        ret

; free_directory: unlock what read_directory locked.
;   clobbers:  eax, ebx, edx, flags
free_directory:
        mov     ebx, [entries]
        test    ebx, ebx
        jz      .unlock
        SYSTEM  FREE
.unlock:
        mov     edx, [directory_lock]
        SYSTEM  UNLOCK_DIRECTORY
        ret

; gather: note the address of every entry.  A server may be wrong about its own pages: nothing beyond
; `used`, and no record beyond its page, is looked at.
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
gather:
        mov     edi, [entries]
        mov     esi, [pages]
        mov     ecx, [page_count]
.page:
        mov     edx, [esi + DirectoryPage.used]
        cmp     edx, PAGE_SIZE
        ja      .next_page
        add     edx, esi
        lea     ebx, [esi + sizeof(DirectoryPage)]
.record:
        lea     eax, [ebx + sizeof(DirectoryEntry)]
        cmp     eax, edx
        ja      .next_page
        movzx   eax, word ptr [ebx + DirectoryEntry.length]
        cmp     eax, sizeof(DirectoryEntry)
        jb      .next_page
        sub     eax, sizeof(DirectoryEntry)
        cmp     [ebx + DirectoryEntry.name_length], ax
        ja      .next_page
        lea     eax, [ebx + eax + sizeof(DirectoryEntry)]
        cmp     eax, edx
        ja      .next_page
        mov     [edi], ebx
        add     edi, 4
        inc     dword ptr [entry_count]
        mov     ebx, eax
        jmp     .record
.next_page:
        add     esi, PAGE_SIZE
        dec     ecx
        jnz     .page
        ret

; sort_entries: put the array in order of names (insertion: directories are short or nearly sorted).
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
sort_entries:
        mov     ebx, 1
.next:
        cmp     ebx, [entry_count]
        jae     .done
        mov     ebp, ebx
.sink:
        test    ebp, ebp
        jz      .placed
        mov     eax, [entries]
        lea     eax, [eax + ebp * 4]
        push    eax
        mov     edi, [eax - 4]
        mov     esi, [eax]
        movzx   ecx, word ptr [esi + DirectoryEntry.name_length]
        movzx   edx, word ptr [edi + DirectoryEntry.name_length]
        add     esi, DIRECTORY_NAME_OFFSET
        add     edi, DIRECTORY_NAME_OFFSET
        call    compare_bytes
        pop     eax
        jae     .placed
        mov     ecx, [eax]
        xchg    ecx, [eax - 4]
        mov     [eax], ecx
        dec     ebp
        jmp     .sink
.placed:
        inc     ebx
        jmp     .next
.done:
        ret

; list_path: make the path that a command names, by default the current directory.
;   in:        ebp  index of the word, which may be missing
;   out:       path, ecx; CF=1, eax  ErrorCode if it is too long; named  what to call it in messages
;   clobbers:  esi, flags
list_path:
        mov     esi, here
        cmp     ebp, [word_count]
        jae     .given
        mov     esi, [words + ebp * 4]
.given:
        mov     [named], esi
        call    resolve_path
        mov     eax, ErrorCode.NAME_TOO_LONG
        ret

; command_ls: `ls [-l] [PATH]`.
;   out:       eax  status
command_ls:
        mov     ebp, 1
        mov     dword ptr [long_form], 0
        cmp     dword ptr [word_count], 2
        jb      .path
        mov     esi, [words + 4]
        mov     edi, long_switch
        call    same_word
        jne     .path
        inc     ebp
        mov     dword ptr [long_form], 1
.path:
        call    list_path
        jc      list_failed
        call    read_directory
        jc      list_failed
        xor     ebx, ebx
.entry:
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
.name:
        call    put_name
        call    newline
        inc     ebx
        jmp     .entry
.done:
        call    free_directory
        xor     eax, eax
        ret

; list_failed: a directory cannot be listed.
list_failed:
        mov     esi, [named]
        jmp     report

; put_name: append an entry's name; control characters become question marks.
;   in:        edi  DirectoryEntry
;   clobbers:  eax, ecx, esi, flags
put_name:
        movzx   ecx, word ptr [edi + DirectoryEntry.name_length]
        lea     esi, [edi + DIRECTORY_NAME_OFFSET]
        jecxz   .done
.next:
        lodsb
        cmp     al, 32
        jae     .put
        mov     al, '?'
.put:
        call    put_character
        dec     ecx
        jnz     .next
.done:
        ret

; put_attributes: append `drhsa`, a dash for each that is not set.
;   in:        edi  DirectoryEntry
;   clobbers:  eax, ecx, esi, flags
put_attributes:
        mov     esi, attribute_letters
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

; command_dir: `dir [PATH]`, with totals and the volume's free space.
;   out:       eax  status
command_dir:
        mov     ebp, 1
        call    list_path
        jc      list_failed
        call    read_directory
        jc      list_failed
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
        call    put_decimal
        mov     esi, free_word
        call    put_string
.none:
        call    newline
        call    free_directory
        xor     eax, eax
        ret

        .rodata
here:
        .asciz  "."
long_switch:
        .asciz  "-l"
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
directory_lock:
        .space  4
pages:
        .space  4
page_count:
        .space  4
entries:
        .space  4
entry_count:
        .space  4
named:
        .space  4
long_form:
        .space  4
files:
        .space  4
total:
        .space  8
        .text
