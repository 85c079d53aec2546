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

        ; Room for four times as many entries as the pages can hold, whatever the server says: sorting needs it.
        imul    ecx, ecx, PAGE_SIZE / sizeof(DirectoryEntry) * 4 * 4
        jecxz   .empty
        SYSTEM  ALLOCATE
        jc      .failed
        mov     [entries], eax
        call    gather
        mov     esi, [entries]
        mov     ecx, [entry_count]
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

; gather: note the address of every entry. A server may be wrong about its own pages: nothing beyond `used`, and no
; record beyond its page, is read.
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
        .text
