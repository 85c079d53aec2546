; Writes to a file.  The argument is a letter and a path:
;   s  sector by sector: writes 'w' to the console for each that could be written to, '.' for each of a COPIED_PAGE
;   a  all of it at once, twice; then as through another window on the same file: it must be there
;   x  through a pointer into a window that was opened to be read
;   v  has the kernel describe a volume there
;   r  three dwords through a pointer; after the first one the kernel maps the range again
;   m  32 KiB at the end, at the beginning and at the end again, of PATTERN + 3, 2 and 1, then reads both back, the
;      beginning first
;   o  through a pointer, before and after the file has been closed, which is open by another handle as well
;   h  has the beginning mapped to be written, reads it again and again, and never ends
;   f  opens with a flag that does not exist
; Then it closes the file, opens it to be read, and writes all of it to the console.  The exit code is the bytes of the
; first file_write; an error is exit code 0xFFFF0000 + ErrorCode.

        .include "system.inc"

PATTERN = 0xA5
NO_FLAG = 0x80
ERRORS = 0xffff0000
DIFFERENT = 0xeeee0000
PIECE = 65536
END = 32768

start:
        mov     esi, USER_ARGUMENTS + 1
        xor     ecx, ecx
.count:
        cmp     byte ptr [esi + ecx], 0
        je      .counted
        inc     ecx
        jmp     .count
.counted:
        mov     [path_size], ecx
        cmp     byte ptr [USER_ARGUMENTS], 'x'
        je      trespass
        cmp     byte ptr [USER_ARGUMENTS], 'f'
        je      bad_flag
        mov     ebx, file
        call    file_open_to_write
        jc      failed
        cmp     byte ptr [USER_ARGUMENTS], 's'
        je      sectors
        cmp     byte ptr [USER_ARGUMENTS], 'm'
        je      ends
        cmp     byte ptr [USER_ARGUMENTS], 'v'
        je      described
        cmp     byte ptr [USER_ARGUMENTS], 'r'
        je      again
        cmp     byte ptr [USER_ARGUMENTS], 'o'
        je      outlived
        cmp     byte ptr [USER_ARGUMENTS], 'h'
        je      holder

; The source is memory as large as the file.
        call    file_size
        mov     [size], eax
        mov     ecx, eax
        SYSTEM  ALLOCATE
        jc      failed
        mov     [source], eax
        mov     edi, eax
        mov     ecx, [size]
        mov     al, PATTERN
        rep     stosb

        ; Another window on the same file.
        mov     ebx, other
        mov     esi, USER_ARGUMENTS + 1
        mov     ecx, [path_size]
        call    file_open
        jc      failed
        call    file_peek
        jc      failed
        mov     [seen], eax
        mov     al, [eax]

        mov     ebx, file
        call    write_all
        jc      failed
        mov     [written], eax
again_begin:
        call    write_all
again_end:
        jc      failed
        mov     eax, [seen]
        cmp     dword ptr [eax], PATTERN * 0x01010101
        mov     ebx, DIFFERENT
        jne     end

reread:
        mov     ebx, file
        call    file_close
closed: mov     ebx, file
        mov     esi, USER_ARGUMENTS + 1
        mov     ecx, [path_size]
        call    file_open
        jc      failed
.piece:
        mov     edi, buffer
        mov     ecx, PIECE
        call    file_read
        jc      failed
        test    eax, eax
        jz      .end
        mov     esi, buffer
        mov     ecx, eax
        SYSTEM  WRITE
        jmp     .piece
.end:
        mov     ebx, [written]
end:    SYSTEM  EXIT

failed: lea     ebx, [eax + ERRORS]
        jmp     end

; write_all: the whole source at the beginning of the file.
write_all:
        xor     eax, eax
        xor     edx, edx
        call    file_seek
        mov     esi, [source]
        mov     ecx, [size]
        jmp     file_write

; Each sector by itself.
sectors:
        call    file_size
        add     eax, SECTOR_SIZE - 1
        shr     eax, SECTOR_SHIFT
        mov     [size], eax
        mov     edi, buffer
        mov     ecx, SECTOR_SIZE
        mov     al, PATTERN
        rep     stosb
        xor     ebp, ebp
.next:
        mov     eax, ebp
        xor     edx, edx
        shl     eax, SECTOR_SHIFT
        call    file_seek
        mov     esi, buffer
        mov     ecx, SECTOR_SIZE
        call    file_write
        mov     cl, 'w'
        jnc     .mark
        cmp     eax, ErrorCode.COPIED_PAGE
        jne     failed
        mov     cl, '.'
.mark:
        mov     [marks + ebp], cl
        inc     ebp
        cmp     ebp, [size]
        jb      .next
        mov     esi, marks
        mov     ecx, ebp
        SYSTEM  WRITE
        jmp     reread

; A result of the kernel.
described:
        call    file_peek
        jc      failed
        mov     edi, eax
        xor     ebx, ebx
describe_here:
        SYSTEM  VOLUME_INFORMATION
        jc      failed
        jmp     reread

; A range that is mapped again.
again:
        call    file_peek
        jc      failed
        mov     dword ptr [eax], PATTERN
        push    eax
        mov     ebx, [file + File.handle]
        xor     edx, edx
        xor     esi, esi
        mov     ecx, 1
        SYSTEM  MAP_FILE
        jc      failed
        pop     eax
again_mapped:
        mov     dword ptr [eax + 4], PATTERN
again_written:
        mov     dword ptr [eax + 8], PATTERN
        jmp     reread

; Both ends of a file that no window shows as a whole.
ends:
        mov     ebp, 3
.next:
        mov     edi, buffer
        mov     ecx, END
        lea     eax, [ebp + PATTERN]
        rep     stosb
        call    seek_end
        mov     esi, buffer
        mov     ecx, END
        call    file_write
        jc      failed
        add     [written], eax
        not     dword ptr [at_end]
        dec     ebp
        jnz     .next
        mov     ebp, 2
.read:
        call    seek_end
        mov     edi, buffer
        mov     ecx, END
        call    file_read
        jc      failed
        mov     esi, buffer
        mov     ecx, eax
        SYSTEM  WRITE
        not     dword ptr [at_end]
        dec     ebp
        jnz     .read
        jmp     closed.end

; seek_end: to the last END bytes if at_end, else to the first.
seek_end:
        call    file_size
        sub     eax, END
        sbb     edx, 0
        and     eax, [at_end]
        and     edx, [at_end]
        jmp     file_seek

outlived:
        mov     ebx, other
        mov     esi, USER_ARGUMENTS + 1
        mov     ecx, [path_size]
        call    file_open
        jc      failed
        mov     ebx, file
        call    file_peek
        jc      failed
        mov     dword ptr [eax], PATTERN
        push    eax
        call    file_close
        pop     eax
        mov     dword ptr [eax], PATTERN
        jmp     reread

holder: call    file_peek
        jc      failed
held:   mov     cl, [eax]
        jmp     held

trespass:
        mov     ebx, file
        call    file_open
        jc      failed
        call    file_peek
        jc      failed
        mov     ecx, [eax]
trespass_here:
        mov     [eax], ecx
        jmp     reread

bad_flag:
        mov     edx, NO_FLAG
        SYSTEM  OPEN
        jmp     failed

        .include "file.asm"

        .data
at_end: .long   -1
        .bss
        .align 4
file:   .space  sizeof(File)
other:  .space  sizeof(File)
path_size:
        .space  4
size:   .space  4
source: .space  4
seen:   .space  4
written:
        .space  4
buffer: .space  PIECE
marks:  .space  16384
        .text
