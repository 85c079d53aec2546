; A client of which tests set the registers at "before" and the entries at `entries`, with a page of memory on both sides.

        .include "system.inc"

start:
        mov     ecx, 4096
        SYSTEM  ALLOCATE
        mov     [heap], eax
before: call    SELECTOR_IPC_GATE:0
after:  jmp     before

        .bss
        .align 4096
heap:   .space  4096
entries:
        .space  4096
        .space  4096
        .text
