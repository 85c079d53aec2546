; The client of `callgate bench read`.  Its argument is a letter and a path:
;   s  sum all dwords of the file through file_peek, for ever, one pass after the other
;   m  the same over as much plain memory
;   r  read a dword at a pseudo-random multiple of 4 KiB, for ever, after one pass
;   i  the same in ranges of 64 KiB with as much between them that is not in memory, in the first 30 MiB
;   d  lock, read and unlock the directory, for ever
; The benchmark stops it at labels.

        .include "../../include/system.inc"

start:
        mov     ebx, file
        mov     esi, USER_ARGUMENTS + 1
        xor     ecx, ecx
.count:
        cmp     byte ptr [esi + ecx], 0
        je      .counted
        inc     ecx
        jmp     .count
.counted:
        cmp     byte ptr [USER_ARGUMENTS], 'd'
        je      directory
        call    file_open
        jc      failed
        cmp     byte ptr [USER_ARGUMENTS], 'm'
        je      memory
        cmp     byte ptr [USER_ARGUMENTS], 'i'
        je      islands

; One pass over the file.
pass_begin:
        xor     ebp, ebp
        mov     dword ptr [file + File.position], 0
        mov     dword ptr [file + File.position + 4], 0
.next:
        call    file_peek
        jc      failed
        test    ecx, ecx
        jz      pass_end
        add     [file + File.position], ecx
        adc     dword ptr [file + File.position + 4], 0
        call    sum
        jmp     .next
pass_end:
        cmp     byte ptr [USER_ARGUMENTS], 'r'
        je      random
        cmp     byte ptr [USER_ARGUMENTS], 'o'
        jne     pass_begin
        xor     ebx, ebx
        SYSTEM  EXIT

; The same sum over memory of the process.
memory:
        call    file_size
        mov     edi, eax
        mov     ecx, eax
        SYSTEM  ALLOCATE
        jc      failed
        mov     edx, eax
memory_begin:
        xor     ebp, ebp
        mov     eax, edx
        mov     ecx, edi
        push    edx
        call    sum
        pop     edx
memory_end:
        jmp     memory_begin

; sum: add dwords to EBP.  In: EAX = address, ECX = bytes.  Clobbers EAX, ECX, EDX.
sum:
        shr     ecx, 2
        jz      .done
        lea     edx, [eax + ecx * 4]
.next:
        add     ebp, [eax]
        add     eax, 4
        cmp     eax, edx
        jb      .next
.done:
        ret

; Positions come from a linear congruential generator (Numerical Recipes, 7.1).
random:
        call    file_size
        shr     eax, 12
        mov     edi, eax
        mov     esi, 1
random_next:
        imul    esi, esi, 1664525
        add     esi, 1013904223
        mov     eax, esi
        mul     edi
        mov     eax, edx
        shl     eax, 12
        xor     edx, edx
random_before:
        call    file_seek
        call    file_peek
random_after:
        jc      failed
        add     ebp, [eax]
        jmp     random_next

; Ranges with gaps, read from the last to the first: a reader that moves backwards is sent no more than it asks for.
ISLANDS = 180
ISLAND_SHIFT = 17                       ; log2 of the bytes from one to the next
ISLAND_PAGES_SHIFT = 4                  ; log2 of its pages
islands:
        mov     esi, ISLANDS
.next:
        lea     eax, [esi - 1]
        shl     eax, ISLAND_SHIFT
        xor     edx, edx
        call    file_seek
        call    file_peek
        jc      failed
        add     ebp, [eax]
        dec     esi
        jnz     .next
        mov     edi, ISLANDS << ISLAND_PAGES_SHIFT
        mov     esi, 1
islands_next:
        imul    esi, esi, 1664525
        add     esi, 1013904223
        mov     eax, esi
        mul     edi
        mov     eax, edx
        shr     eax, ISLAND_PAGES_SHIFT
        shl     eax, ISLAND_SHIFT
        and     edx, (1 << ISLAND_PAGES_SHIFT) - 1
        shl     edx, PAGE_SHIFT
        add     eax, edx
        xor     edx, edx
islands_before:
        call    file_seek
        call    file_peek
islands_after:
        jc      failed
        add     ebp, [eax]
        jmp     islands_next

; A directory of many files, entry by entry.
directory:
        mov     [path_size], ecx
directory_begin:
        mov     esi, USER_ARGUMENTS + 1
        mov     ecx, [path_size]
        SYSTEM  LOCK_DIRECTORY
        jc      failed
        mov     [lock], edx
directory_locked:
        xor     ebp, ebp
.page:
        mov     edx, [eax + DirectoryPage.entries]
        lea     esi, [eax + sizeof(DirectoryPage)]
.entry:
        sub     edx, 1
        jc      .next_page
        add     ebp, [esi + DirectoryEntry.size]
        movzx   edi, word ptr [esi + DirectoryEntry.length]
        add     esi, edi
        jmp     .entry
.next_page:
        add     eax, PAGE_SIZE
        dec     ecx
        jnz     .page
directory_read:
        mov     edx, [lock]
        SYSTEM  UNLOCK_DIRECTORY
        jmp     directory_begin

failed:
        lea     ebx, [eax + 100]
        SYSTEM  EXIT

        .include "../library/file.asm"

        .bss
        .align 4
file:   .space  sizeof(File)
path_size:
        .space  4
lock:   .space  4
        .text
