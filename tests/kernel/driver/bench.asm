; A bench for the disk drivers: paging, interrupts and the shipped driver files, and nothing else.

        .include "macros.inc"

CR0_PE = 0x00000001
CR0_WP = 0x00010000
CR0_PG = 0x80000000
CR4_PAE = 0x20
MSR_EFER = 0xc0000080
EFER_NXE = 0x800

        .section .boot

; start: paging on, tables, drivers; then rest.
;   in:        esi  page-directory pointers
;   state:     paging off, IF=0, flat segments
start:
        mov     eax, cr4
        or      eax, CR4_PAE
        mov     cr4, eax
        mov     cr3, esi
        mov     ecx, MSR_EFER
        rdmsr
        or      eax, EFER_NXE
        wrmsr
        mov     eax, cr0
        or      eax, CR0_PG | CR0_WP | CR0_PE
        mov     cr0, eax
        mov     eax, start_paged
        jmp     eax

start_paged:
        lgdt    [gdt_pointer]
        lidt    [idt_pointer]
        jmp     SELECTOR_KERNEL_CODE:.reload
.reload:
        mov     eax, SELECTOR_KERNEL_DATA
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, stack_top
        call    interrupts_init
        call    disk_init
        HOST    BOOT_DONE

; rest: where calls return to; interrupts come in while it halts.
rest:
        sti
        hlt
        jmp     rest

; returned: where the routines that a test calls return to.
returned:
        hlt
        jmp     returned

        .text

; linger: let time pass.
;   in:        ecx  instructions
linger:
        loop    linger
        ret

        .include "interrupts.asm"
        .include "disks.inc"

        .macro STUB vector, handler
vector_\vector:
        pushad
        push    \vector
        call    \handler
        jmp     end
        .endm

        STUB 32, spurious
        STUB 36, spurious
        STUB 39, spurious
        STUB 43, ahci_interrupt
        STUB 46, ide_interrupt
        STUB 47, ide_interrupt

end:
        pop     eax
        call    end_of_interrupt
        popad
        iretd

        .data
        .align 8
bench_gdt:
        .quad   0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
        .word   3 * 8 - 1
        .long   bench_gdt
        .align 8
idt_pointer:
        .word   48 * 8 - 1
        .long   idt

        .macro GATE vector
        .word   lo16(vector_\vector), SELECTOR_KERNEL_CODE, 0x8e00, hi16(vector_\vector)
        .endm

        .align 8
idt:
        .space  32 * 8
        GATE 32
        .space  3 * 8
        GATE 36
        .space  2 * 8
        GATE 39
        .space  3 * 8
        GATE 43
        .space  2 * 8
        GATE 46
        GATE 47

        .bss
        .align 4096
stack:
        .space  4096
stack_top:

        .include "words.asm"
