; IDE requests: issuing, copying block by block at interrupts, ending (ACS-3, 7.26 and 7.29; PIO data-in
; protocol: ATA8-APT).  A channel runs one command at a time, in slot 0 of the disk that it is for.

; ide_start: issue a request of a drive's queue, or of the other drive's, if their channel is idle.
;   in:        esi  Disk, ecx  its number, IDE_FIRST_DISK or more: the drive whose turn it is
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
;   state:     IF=0
;   leaves by: ret
ide_start:
        call    ide_channel
        cmp     dword ptr [edi + IdeChannel.disk], 0
        jne     .done
.next:
        cmp     dword ptr [esi + Disk.queue_head], 0
        jne     .issue
        xor     ecx, 1
        call    disk_of
        cmp     dword ptr [esi + Disk.queue_head], 0
        je      .done
.issue:
        xor     edx, edx
        call    disk_take
        mov     [edi + IdeChannel.disk], esi
        mov     [edi + IdeChannel.done], edx
        call    ide_command
        jnc     .done
        call    ide_lost
        jmp     .next
.done:
        ret

; ide_command: hand a request to its drive.
;   in:        ebx  DiskRequest, esi  Disk, ecx  its number, ebp  command block
;   out:       CF=1  the drive is gone or stays busy
;   clobbers:  eax, edx, flags
;   state:     IF=0, DF=0
;   leaves by: ret
ide_command:
        call    ide_select
        call    ide_wait
        jc      .done
        .event  disk.issue disk=ecx slots=1
        push    esi

        ; Two bytes fit each register: the upper ones are written first (ACS-3, 4.1.3).
        mov     eax, [ebx + DiskRequest.sectors]
        xchg    al, ah
        lea     esi, [ebx + DiskRequest.lba + LBA_HIGH_HALF]
        call    ide_registers
        xchg    al, ah
        lea     esi, [ebx + DiskRequest.lba]
        call    ide_registers
        pop     esi

        mov     al, IdeCommand.READ_SECTORS_EXT
        cmp     dword ptr [esi + Disk.block_sectors], 1
        je      .single
        mov     al, IdeCommand.READ_MULTIPLE_EXT
.single:
        lea     edx, [ebp + IdeRegister.COMMAND]
        out     dx, al
        clc
.done:
        ret

; ide_registers: write a byte of the sector count and three of the sector's number.
;   in:        al   count, esi  address of the three, ebp  command block
;   clobbers:  edx, esi, flags
;   state:     DF=0
;   leaves by: ret
ide_registers:
        lea     edx, [ebp + IdeRegister.COUNT]
        out     dx, al
        inc     edx
        outsb
        inc     edx
        outsb
        inc     edx
        outsb
        ret

        .assert IdeRegister.LBA_LOW == IdeRegister.COUNT + 1, "registers in a row"
        .assert IdeRegister.LBA_MID == IdeRegister.LBA_LOW + 1, "registers in a row"
        .assert IdeRegister.LBA_HIGH == IdeRegister.LBA_MID + 1, "registers in a row"

; ide_interrupt: serve both channels; the drives' state says what there is to do, not the line.
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
;   state:     IF=0, DF=0, called by the interrupt stub, which ends the interrupt
;   leaves by: ret
ide_interrupt:
        cmp     dword ptr [kernel_words + KernelWords.ide_base], 0
        je      .done
        mov     ecx, IDE_FIRST_DISK
.channel:
        push    ecx
        call    ide_serve
        pop     ecx
        add     ecx, 2
        cmp     ecx, DISKS
        jb      .channel
.done:
        ret

; ide_serve: serve one channel.
;   in:        ecx  number of its first disk
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
;   state:     IF=0, DF=0
;   leaves by: ret or ide_start
ide_serve:
        call    ide_channel
        mov     esi, [edi + IdeChannel.disk]
        test    esi, esi
        jz      .idle
        mov     ebx, [esi + Disk.requests]
        movzx   ecx, word ptr [ebx + DiskRequest.disk]

        ; Alternate status does not take back the interrupt, if it is the other channel's turn.
        lea     edx, [ebp + IDE_CONTROL]
        in      al, dx
        cmp     al, IDE_FLOATING
        je      .lost
        test    al, al
        jz      .lost
        test    al, TaskFile.BSY
        jnz     .not_yet
        lea     edx, [ebp + IdeRegister.STATUS]
        in      al, dx
        test    al, IDE_FAILED
        jnz     .failed
        test    al, TaskFile.DRQ
        jz      .not_yet
        call    ide_block
        mov     eax, [edi + IdeChannel.done]
        cmp     eax, [ebx + DiskRequest.sectors]
        jb      .not_yet
        mov     eax, DiskStatus.DONE
        jmp     .over

.failed:
        movzx   eax, al
        lea     edx, [ebp + IdeRegister.ERROR]
        mov     ah, al
        in      al, dx
        xchg    al, ah
        call    ide_error
        mov     eax, DiskStatus.FAILED
.over:
        mov     dword ptr [edi + IdeChannel.disk], 0
        xor     edx, edx
        call    disk_complete

        ; The other drive's turn.
        xor     ecx, 1
        call    disk_of
        jmp     ide_start

.lost:
        call    ide_lost
        jmp     ide_start

.idle:
        lea     edx, [ebp + IdeRegister.STATUS]
        in      al, dx
.not_yet:
        ret

; ide_error: note why a command failed.
;   in:        ebx  DiskRequest, ecx  disk, eax  status + error register * 256
;   leaves by: ret
ide_error:
        .event  disk.error disk=ecx error=eax
        mov     [ebx + DiskRequest.error], eax
        ret

; ide_block: copy what the drive offers, a block of sectors, to where it belongs.
;   in:        ebx  DiskRequest, esi  Disk, edi  IdeChannel, ebp  command block
;   out:       IdeChannel.done
;   clobbers:  eax, edx, flags
;   state:     IF=0, DF=0
;   leaves by: ret
ide_block:
        push    ecx
        push    esi
        mov     ecx, [esi + Disk.block_sectors]
        mov     eax, [ebx + DiskRequest.sectors]
        sub     eax, [edi + IdeChannel.done]
        cmp     ecx, eax
        jbe     .piece
        mov     ecx, eax

        ; ECX: sectors of the block.  Page by page: ESI is the first sector in the page, EDX the page's index.
.piece:
        mov     edx, [edi + IdeChannel.done]
        mov     esi, edx
        and     esi, SECTORS_PER_PAGE - 1
        shr     edx, PAGE_SHIFT - SECTOR_SHIFT
        mov     eax, [ebx + DiskRequest.pages + edx * PAGE_ENTRY]
        mov     edx, [ebx + DiskRequest.pages + edx * PAGE_ENTRY + HIGH]
        call    window_map
        mov     eax, SECTORS_PER_PAGE
        sub     eax, esi
        cmp     eax, ecx
        jbe     .fits
        mov     eax, ecx
.fits:
        add     [edi + IdeChannel.done], eax
        sub     ecx, eax
        push    ecx
        push    edi
        mov     ecx, eax
        shl     ecx, SECTOR_SHIFT - DWORD_SHIFT
        mov     edi, esi
        shl     edi, SECTOR_SHIFT
        add     edi, KERNEL_WINDOW
        lea     edx, [ebp + IdeRegister.DATA]
        rep     insd
        pop     edi
        pop     ecx
        test    ecx, ecx
        jnz     .piece
        call    window_unmap
        pop     esi
        pop     ecx
        ret

; ide_lost: a drive does not answer as it should.  If nobody is there its disk is gone; if it stays busy
; the channel is reset and the request fails.  The channel is idle afterwards.
;   in:        ecx  disk, ebx  its active DiskRequest, esi  Disk, edi  IdeChannel, ebp  command block
;   clobbers:  eax, ebx, edx, flags
;   state:     IF=0
;   leaves by: ret
ide_lost:
        mov     dword ptr [edi + IdeChannel.disk], 0
        lea     edx, [ebp + IDE_CONTROL]
        in      al, dx
        test    al, al
        jz      .gone
        cmp     al, IDE_FLOATING
        je      .gone
        movzx   eax, al
        call    ide_error
        call    ide_reset
        jc      .gone
        mov     eax, DiskStatus.FAILED
        xor     edx, edx
        jmp     disk_complete

.gone:
        call    disk_abandon
        .event  disk.plug disk=ecx
        ret

; ide_reset: reset both drives of a channel; they leave multiple mode.
;   in:        ecx  disk, esi  its Disk, ebp  command block
;   out:       CF=1  the drive stays busy
;   clobbers:  eax, edx, flags
;   state:     IF=0
;   leaves by: ide_wait
ide_reset:
        push    ecx
        push    esi
        mov     dword ptr [esi + Disk.block_sectors], 1
        xor     ecx, 1
        call    disk_of
        mov     dword ptr [esi + Disk.block_sectors], 1
        pop     esi
        pop     ecx
        mov     al, IdeControl.SRST
        call    ide_control
        push    ecx
        mov     ecx, RESET_READS
.hold:
        in      al, dx
        dec     ecx
        jnz     .hold
        pop     ecx
        xor     eax, eax
        call    ide_control
        call    ide_select
        jmp     ide_wait
