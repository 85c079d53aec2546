; AHCI commands of the driver itself: one at a time, with 512 bytes of data; the driver waits for each.

; ahci_polled: carry out a command in slot 0 of a port that has nothing issued.  Commands that are parked
; in the slots stay as they are: slot 0's header is borrowed, its table is not touched.
;   in:        eax  AtaCommand, edx  LBA bits 0 to 7, ecx  port, edi  PortRegisters, running
;   out:       CF=0  data in polled_data        CF=1  failed, no answer, or the drive is gone
;   clobbers:  eax, ebx, edx, ebp, flags
;   state:     IF=0
;   leaves by: ret
ahci_polled:
        mov     ebp, ecx
        shl     ebp, COMMAND_LIST_SHIFT
        add     ebp, command_lists
        push    dword ptr [ebp + CommandHeader.flags]
        push    dword ptr [ebp + CommandHeader.ctba]

        mov     ebx, polled_table
        mov     dword ptr [ebx + RegisterFis.type], FIS_START
        mov     [ebx + RegisterFis.command], al
        mov     [ebx + RegisterFis.lba0], edx
        mov     dword ptr [ebx + RegisterFis.count], 1
        mov     dword ptr [ebx + CommandTable.prdt + PrdtEntry.dba], polled_data - KERNEL_BASE
        mov     dword ptr [ebx + CommandTable.prdt + PrdtEntry.dbc], SECTOR_SIZE - 1
        mov     dword ptr [ebp + CommandHeader.flags], COMMAND_FIS_LENGTH | 1 << COMMAND_PRDTL_SHIFT
        mov     dword ptr [ebp + CommandHeader.prdbc], 0
        mov     dword ptr [ebp + CommandHeader.ctba], polled_table - KERNEL_BASE
        mov     dword ptr [edi + PortRegisters.ci], 1
        call    ahci_await_end

        pop     dword ptr [ebp + CommandHeader.ctba]
        pop     dword ptr [ebp + CommandHeader.flags]
        ret

; ahci_await_end: wait until slot 0 is done, and clear the causes that it left in PxIS; a plug event stays there for the
; interrupt handler.
;   in:        edi  PortRegisters
;   out:       CF=1  failed, no answer, or the drive is gone
;   clobbers:  eax, edx, flags
;   leaves by: ret
ahci_await_end:
        mov     edx, POLL_LIMIT
.wait:
        test    dword ptr [edi + PortRegisters.is_], ERROR_CAUSES | PLUG_CAUSES
        jnz     .failed
        test    dword ptr [edi + PortRegisters.ci], 1
        jz      .over
        call    disk_pause
        dec     edx
        jnz     .wait
.failed:
        mov     dword ptr [edi + PortRegisters.is_], ~PLUG_CAUSES
        stc
        ret

.over:
        ; Done, or halted by an error since PxIS was read.
        test    dword ptr [edi + PortRegisters.is_], ERROR_CAUSES | PLUG_CAUSES
        jnz     .failed
        mov     dword ptr [edi + PortRegisters.is_], ~PLUG_CAUSES
        clc
        ret

        .bss
        .align 128
polled_table:
        .space  sizeof(CommandTable)
        .text
