; Reads a file in places and amounts that a linear congruential generator says, by file_read or through file_peek,
; opens it again now and then, and ends with a hash of everything as its exit code.  The argument is the seed and
; the number of reads, eight hexadecimal digits each, then the path.
; Files are smaller than 4 GiB.  An error is exit code 100 + ErrorCode.

        .include "system.inc"

LONGEST = 8192
AGAIN = 15                              ; how many low bits of the count are zero when the file is opened again

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
.open:
        mov     esi, [path]
        mov     ecx, [path_size]
        call    file_open
        jc      failed
.next:
        sub     dword ptr [left], 1
        jc      .end
        call    random
        push    eax
        call    file_size
        mov     ecx, eax
        pop     eax
        xor     edx, edx
        div     ecx
        mov     eax, edx
        xor     edx, edx
        call    file_seek
        call    random
        shr     eax, 8
        mov     ebp, eax
        and     eax, LONGEST - 1
        inc     eax
        bt      ebp, 20
        jc      .peek
        call    by_reading
        jmp     .done
.peek:  call    by_peeking
.done:
        test    dword ptr [left], AGAIN
        jnz     .next
        call    file_close
        jc      failed
        jmp     .open
.end:
        call    file_close
        mov     ebx, [hash]
        SYSTEM  EXIT

failed: lea     ebx, [eax + 100]
        SYSTEM  EXIT

; by_reading: eax bytes from the position on, or as many as there are.
by_reading:
        mov     ebp, eax
.more:
        mov     edi, buffer
        mov     ecx, ebp
        call    file_read
        jc      failed
        test    eax, eax
        jz      .end
        mov     esi, buffer
        mov     ecx, eax
        sub     ebp, eax
        call    mix
        test    ebp, ebp
        jnz     .more
.end:   ret

; by_peeking: the same, where it lies.
by_peeking:
        mov     ebp, eax
.more:
        call    file_peek
        jc      failed
        jecxz   .end
        cmp     ecx, ebp
        jbe     .piece
        mov     ecx, ebp
.piece:
        add     [file + File.position], ecx
        adc     dword ptr [file + File.position + 4], 0
        mov     esi, eax
        sub     ebp, ecx
        call    mix
        test    ebp, ebp
        jnz     .more
.end:   ret

; mix: ecx bytes at esi into the hash; clobbers eax, ecx, edx, esi.
mix:
        mov     edx, [hash]
.byte:
        lodsb
        rol     edx, 5
        xor     dl, al
        loop    .byte
        mov     [hash], edx
        ret

        .include "generator.asm"
        .include "file.asm"

        .bss
        .align 4
file:   .space  sizeof(File)
left:   .space  4
path:   .space  4
path_size:
        .space  4
hash:   .space  4
buffer: .space  LONGEST
        .text
