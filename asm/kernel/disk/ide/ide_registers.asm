; A channel's registers: selecting, waiting, writing a command's arguments, resetting (ACS-3, 6; ATA8-APT).

IDE_SETTLE_READS = 4            ; reads of alternate status, 100 ns or more each
IDE_FAILED = TaskFile.ERR | TaskFile.DF

; ide_control: write the device control register.
;   in:        al   IdeControl, ebp  command block
;   clobbers:  edx, flags
;   leaves by: ret
ide_control:
        lea     edx, [ebp + IDE_CONTROL]
        out     dx, al
        ret

; ide_select: select a drive of a channel.
;   in:        ecx  disk, ebp  command block
;   clobbers:  eax, edx, flags
;   leaves by: ide_settle
ide_select:
        mov     eax, ecx
        and     eax, 1
        shl     eax, IDE_DEVICE_SHIFT
        or      eax, DEVICE_LBA
        lea     edx, [ebp + IdeRegister.DEVICE]
        out     dx, al

; ide_settle: give a drive the 400 ns until its status is valid (ATA8-APT, host protocols).
;   in:        ebp  command block
;   clobbers:  eax, edx
;   leaves by: ret
ide_settle:
        lea     edx, [ebp + IDE_CONTROL]
        .rept   IDE_SETTLE_READS
        in      al, dx
        .endr
        ret

; ide_wait: wait until the selected drive is not busy, without clearing its interrupt.
;   in:        ebp  command block
;   out:       CF=0  al  status     CF=1  al  status: IDE_FLOATING or 0 = no drive, else it stays busy
;   clobbers:  eax, edx, flags
;   leaves by: ret
ide_wait:
        push    ecx
        mov     ecx, POLL_LIMIT
        lea     edx, [ebp + IDE_CONTROL]
.poll:
        in      al, dx
        cmp     al, IDE_FLOATING
        je      .no_drive
        test    al, al
        jz      .no_drive
        test    al, TaskFile.BSY
        jz      .idle
        call    disk_pause
        dec     ecx
        jnz     .poll
.no_drive:
        pop     ecx
        stc
        ret

.idle:
        pop     ecx
        clc
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
