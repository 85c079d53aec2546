; A client of which tests set the registers at "before" and the entries at `entries`, with a page of memory on both sides.
; Its argument is empty, or OpenFlags, a byte, and the path of a file, of which it opens a window.

        .include "system.inc"

start:
        mov     ecx, 4096
        SYSTEM  ALLOCATE
        mov     [heap], eax
        movzx   edx, byte ptr [USER_ARGUMENTS]
        mov     esi, USER_ARGUMENTS + 1
        xor     ecx, ecx
.count:
        cmp     byte ptr [esi + ecx], 0
        je      .counted
        inc     ecx
        jmp     .count
.counted:
        jecxz   before
        SYSTEM  OPEN
        mov     [window], edi
before: call    SELECTOR_IPC_GATE:0
after:  jmp     before

        .bss
        .align 4096
heap:   .space  4
window: .space  4092
entries:
        .space  4096
        .space  4096
        .text
