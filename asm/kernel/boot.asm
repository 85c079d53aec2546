; The first instructions.  The loader leaves the CPU as a boot loader would: protected mode, flat
; segments, paging off, interrupts off; this section lies at its physical address and is linked at
; KERNEL_BASE + that.

CR0_PE = 0x00000001
CR0_WP = 0x00010000
CR0_PG = 0x80000000
CR4_PAE = 0x20
CR4_PGE = 0x80
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
        mov     eax, cr4
        or      eax, CR4_PAE | CR4_PGE
        mov     cr4, eax
        mov     eax, [esi + BootInformation.page_directory_pointers]
        .ledger cr3_loads
        mov     cr3, eax
        mov     ecx, MSR_EFER
        rdmsr
        or      eax, EFER_NXE
        wrmsr
        mov     eax, cr0
        or      eax, CR0_PG | CR0_WP | CR0_PE
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
