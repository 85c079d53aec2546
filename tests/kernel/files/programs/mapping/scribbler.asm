; Writes to a file in places and amounts that a linear congruential generator says, by two handles that show the same
; file, sleeps until what it has left alone is let go of, and opens one of them again now and then.  Its exit code is a
; hash of what each file_write said, of where it left the position, and of what was read there.  The argument is the seed and the number of
; writes, eight hexadecimal digits each, then the path.

        .include "system.inc"

LONGEST = 8192
BEHIND = 16                             ; bytes that are read after each write
ERROR = 0x80000000                      ; with the ErrorCode, in the hash
AGAIN = 7                               ; how many low bits of the count are zero when it sleeps
NAP = 600000000                         ; nanoseconds
FAILED = 0xffff0000

start:
        mov     esi, USER_ARGUMENTS
        call    number
        mov     [seed], edx
        call    number
        mov     [left], edx
        mov     [path], esi
.count:
        cmp     byte ptr [esi], 0
        je      .counted
        inc     esi
        jmp     .count
.counted:
        sub     esi, [path]
        mov     [path_size], esi
        mov     ebx, file
        call    open
.again:
        mov     ebx, other
        call    open
.next:
        sub     dword ptr [left], 1
        jc      .end
        call    write
        test    dword ptr [left], AGAIN
        jnz     .next
        mov     ebx, other
        call    file_close
        jc      failed
        mov     ecx, NAP
        xor     edx, edx
        SYSTEM  SLEEP
        jmp     .again

.end:
        mov     ebx, [hash]
        SYSTEM  EXIT

failed: lea     ebx, [eax + FAILED]
        SYSTEM  EXIT

; open: open the file for the File in ebx.
open:
        mov     esi, [path]
        mov     ecx, [path_size]
        call    file_open_to_write
        jc      failed
        ret

; write: one write.
write:
        call    random
        push    eax
        mov     ebx, file
        call    file_size
        mov     ecx, eax
        pop     eax
        xor     edx, edx
        div     ecx
        push    edx
        call    random
        mov     ebp, eax
        bt      ebp, 21
        jnc     .chosen
        mov     ebx, other
.chosen:
        pop     eax
        xor     edx, edx
        call    file_seek

        ; As many bytes as the middle of the number says, each its upper eight bits, from anywhere within a dword.
        mov     ecx, ebp
        shr     ecx, 8
        and     ecx, LONGEST - 1
        inc     ecx
        mov     esi, ebp
        shr     esi, 22
        and     esi, 3
        add     esi, buffer
        mov     eax, ebp
        shr     eax, 24
        mov     edi, esi
        push    ecx
        rep     stosb
        pop     ecx
        call    file_write
        jnc     .mix
        or      eax, ERROR
.mix:
        call    mix
        mov     eax, [ebx + File.position]
        call    mix

        ; The data after it.
        mov     edi, buffer
        mov     ecx, BEHIND
        call    file_read
        jc      failed
        mov     ecx, eax
        jecxz   .end
        mov     esi, buffer
.byte:
        xor     eax, eax
        lodsb
        call    mix
        loop    .byte
.end:   ret

; mix: eax into the hash; clobbers edx.
mix:
        mov     edx, [hash]
        rol     edx, 5
        xor     edx, eax
        mov     [hash], edx
        ret

        .include "generator.asm"
        .include "file.asm"

        .bss
        .align 4
file:   .space  sizeof(File)
other:  .space  sizeof(File)
left:   .space  4
path:   .space  4
path_size:
        .space  4
hash:   .space  4
buffer: .space  LONGEST + 4
        .text
