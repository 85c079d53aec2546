; Reads the target of a link, a number of times: its argument is the number, as a byte, then the link's path.  For each
; it writes a byte, 0 or the ErrorCode, the result as a dword, and the ROOM bytes that it has given, with as many after
; them. AT is the address for the target; 0: those bytes.

        .include "system.inc"

start:
        mov     al, [USER_ARGUMENTS]
        mov     [left], al
        mov     edi, USER_ARGUMENTS + 1
        xor     ecx, ecx
.length:
        cmp     byte ptr [edi + ecx], 0
        je      .next
        inc     ecx
        jmp     .length
.next:
        mov     eax, 0x55555555
        mov     edi, room
        push    ecx
        mov     ecx, ROOM * 2 / 4
        rep stosd
        pop     ecx
        mov     esi, USER_ARGUMENTS + 1
        mov     edi, AT
        test    edi, edi
        jnz     .ask
        mov     edi, room
.ask:
        mov     edx, ROOM
        SYSTEM  READ_LINK
        mov     [result], eax
        setc    [code]
        jnc     .told
        mov     [code], al
.told:
        push    ecx
        mov     esi, code
        mov     ecx, 5 + ROOM * 2
        SYSTEM  WRITE
        pop     ecx
        dec     byte ptr [left]
        jnz     .next
        xor     ebx, ebx
        SYSTEM  EXIT

        .bss
        .align  4
left:
        .space  3
code:
        .space  1
result:
        .space  4
room:
        .space  ROOM * 2
