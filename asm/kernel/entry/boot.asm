; The first instructions.  The loader leaves the CPU as a boot loader would: protected mode, flat
; segments, paging off, interrupts off; this section lies at its physical address and is linked at
; KERNEL_BASE + that.

CR0_PE = 0x00000001
CR0_MP = 0x00000002             ; WAIT traps as well while TS is set
CR0_TS = 0x00000008             ; x87, MMX and SSE trap (#NM): their registers belong to another thread, or to none
CR0_ET = 0x00000010             ; always set
CR0_NE = 0x00000020             ; x87 errors are #MF
CR0_WP = 0x00010000
CR0_PG = 0x80000000
CR4_PAE = 0x20
CR4_PGE = 0x80
CR4_OSFXSR = 0x200              ; FXSAVE and FXRSTOR keep SSE registers, and SSE may be used
CR4_OSXMMEXCPT = 0x400          ; SSE errors are #XM
MSR_EFER = 0xc0000080
EFER_NXE = 0x800

; start: from the loader's state to the first thread.
;   in:        BOOT_INFORMATION filled
;   leaves by: switching to the first thread
;   state:     ring 0, paging off, IF=0
start:
        mov     esi, BOOT_INFORMATION
        cmp     dword ptr [esi + BootInformation.magic], BOOT_MAGIC
        jne     .halt

        ; The loader's first page tables map the kernel at both its addresses until the jump is done.
        ; No bit that the loader left: OSXSAVE would enable registers that FXSAVE does not save.
        mov     eax, CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT
        mov     cr4, eax
        mov     eax, [esi + BootInformation.page_directory_pointers]
        .ledger cr3_loads
        mov     cr3, eax
        mov     ecx, MSR_EFER
        rdmsr
        or      eax, EFER_NXE
        wrmsr
        mov     eax, CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_TS | CR0_MP | CR0_PE
        mov     cr0, eax
        mov     eax, start_paged
        jmp     eax

.halt:
        cli
        hlt
        jmp     .halt

; start_paged: descriptor tables, interrupt controller, timer, disks, first thread.
;   state:     ring 0, paging on, IF=0
start_paged:
        .frame  none
        add     esi, KERNEL_BASE
        lgdt    [gdt_pointer]
        lidt    [idt_pointer]
        jmp     SELECTOR_KERNEL_CODE:.reload
.reload:
        mov     eax, SELECTOR_KERNEL_DATA
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, boot_stack_top
        xor     eax, eax
        mov     fs, eax
        mov     gs, eax
        lldt    ax
        mov     eax, SELECTOR_TSS
        ltr     ax

        mov     eax, [esi + BootInformation.ahci_mmio]
        mov     [kernel_words + KernelWords.ahci_base], eax
        mov     eax, [esi + BootInformation.ide_ports]
        mov     [kernel_words + KernelWords.ide_base], eax
        mov     eax, [esi + BootInformation.window_table]
        mov     [kernel_words + KernelWords.window_table], eax
        call    interrupts_init
        call    disk_init

        ; From here on there are threads; the boot stack is never used again.
        HOST    BOOT_DONE
        mov     eax, [esi + BootInformation.first_thread]
        mov     [kernel_words + KernelWords.next], eax
        jmp     switch_first

        .data
        .align 8
gdt_pointer:
        .word   GDT_ENTRIES * 8 - 1
        .long   gdt
        .align 8
idt_pointer:
        .word   256 * 8 - 1
        .long   idt

        .bss
        .align 4096
boot_stack:
        .space  4096
boot_stack_top:
        .section .boot
