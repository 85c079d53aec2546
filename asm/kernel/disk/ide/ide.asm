; IDE channels with PIO: finding drives (ACS-3, ATA8-APT).
;
; The CPU copies every byte: this path exists to be compared with AHCI's.
;
; Registers with a fixed meaning in the IDE files besides disk.asm's:
;   EDI   IdeChannel                    EBP   its command block (port)

IDE_PROBE_FIRST = 0x55          ; what registers of a drive keep and a floating bus does not
IDE_PROBE_SECOND = 0xaa
IDE_MULTIPLE_VALID = 0x80ff     ; IDENTIFY DEVICE word 47: mark, and most sectors of a block
IDE_MULTIPLE_MARK = 0x8000
DWORD_SHIFT = 2
SECTOR_DWORDS = SECTOR_SIZE >> DWORD_SHIFT

        .assert IDE_FIRST_DISK + 2 * IDE_CHANNELS == DISKS, "IDE disks end the table"
        .assert IDE_FIRST_DISK % 2 == 0, "device 0 of a channel has an even number"

; ide_init: find the drives of both channels.
;   in:        kernel_words.ide_base, 0 = there is no controller
;   out:       disk_table
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
;   state:     ring 0, IF=0, before any request
;   leaves by: ret
ide_init:
        cmp     dword ptr [kernel_words + KernelWords.ide_base], 0
        je      .done
        mov     ecx, IDE_FIRST_DISK
.drive:
        call    disk_of
        call    ide_channel
        call    ide_probe
        inc     ecx
        cmp     ecx, DISKS
        jb      .drive
.done:
        ret

; ide_channel: the channel of a drive.
;   in:        ecx  number of the disk, IDE_FIRST_DISK or more
;   out:       edi  IdeChannel, ebp  command block
;   clobbers:  eax, flags
;   leaves by: ret
ide_channel:
        lea     eax, [ecx - IDE_FIRST_DISK]
        shr     eax, 1
        lea     edi, [ide_channels + eax * sizeof(IdeChannel)]
        imul    eax, IDE_CHANNEL_DISTANCE
        mov     ebp, [kernel_words + KernelWords.ide_base]
        sub     ebp, eax
        ret

; ide_probe: look for a drive; a usable one's Disk becomes present.  Interrupts of the channel are on
; afterwards.
;   in:        ecx  disk, esi  Disk, edi  IdeChannel, ebp  command block
;   clobbers:  eax, ebx, edx, flags
;   state:     IF=0
;   leaves by: ret
ide_probe:
        mov     al, IdeControl.NIEN
        call    ide_control
        call    ide_answers
        jc      .none
        xor     eax, eax
        mov     ebx, AtaCommand.IDENTIFY_DEVICE
        call    ide_plain
        jc      .none
        test    al, TaskFile.DRQ
        jz      .none
        call    ide_read_polled
        call    disk_identified
        jc      .none
        call    ide_multiple
        call    disk_appear
        .event  disk.found disk=ecx
.none:
        xor     eax, eax
        call    ide_control
        lea     edx, [ebp + IdeRegister.STATUS]
        in      al, dx                  ; withdraws an interrupt that was requested meanwhile
        ret

; ide_answers: does a drive keep what is written to its registers?
;   in:        ecx  disk, ebp  command block
;   out:       CF=1  no
;   clobbers:  eax, edx, flags
;   leaves by: ret
ide_answers:
        call    ide_select
        lea     edx, [ebp + IdeRegister.COUNT]
        mov     al, IDE_PROBE_FIRST
        out     dx, al
        lea     edx, [ebp + IdeRegister.LBA_LOW]
        mov     al, IDE_PROBE_SECOND
        out     dx, al
        in      al, dx
        cmp     al, IDE_PROBE_SECOND
        jne     .no_drive
        lea     edx, [ebp + IdeRegister.COUNT]
        in      al, dx
        cmp     al, IDE_PROBE_FIRST
        jne     .no_drive
        jmp     ide_wait

.no_drive:
        stc
        ret

; ide_plain: carry out a command without a sector number, up to its data if it has any.
;   in:        bl   command, al  count, ecx  disk, selected, ebp  command block
;   out:       CF=0  al  status                 CF=1  refused, or no drive
;   clobbers:  eax, edx, flags
;   leaves by: ret
ide_plain:
        lea     edx, [ebp + IdeRegister.COUNT]
        out     dx, al
        lea     edx, [ebp + IdeRegister.COMMAND]
        mov     al, bl
        out     dx, al
        call    ide_settle
        call    ide_wait
        jc      .failed
        test    al, IDE_FAILED
        jz      .failed                 ; no error: TEST has cleared CF
        stc
.failed:
        ret

; ide_read_polled: take a sector of data.
;   in:        ebp  command block, DRQ set
;   out:       polled_data
;   clobbers:  edx, flags
;   leaves by: ret
ide_read_polled:
        push    ecx
        push    edi
        lea     edx, [ebp + IdeRegister.DATA]
        mov     edi, polled_data
        mov     ecx, SECTOR_DWORDS
        rep     insd
        pop     edi
        pop     ecx
        ret

; ide_multiple: have the drive hand over several sectors an interrupt, if it can.
;   in:        polled_data, ecx  disk, selected, esi  Disk, ebp  command block
;   clobbers:  eax, ebx, edx, flags
;   leaves by: ret
ide_multiple:
        movzx   eax, word ptr [polled_data + IDENTIFY_MULTIPLE]
        and     eax, IDE_MULTIPLE_VALID
        sub     eax, IDE_MULTIPLE_MARK
        jbe     .no
        push    eax
        mov     ebx, IdeCommand.SET_MULTIPLE_MODE
        call    ide_plain
        pop     eax
        jc      .no
        mov     [esi + Disk.block_sectors], eax
.no:
        ret

        .bss
        .align 16
ide_channels:
        .space  IDE_CHANNELS * sizeof(IdeChannel)
        .text
