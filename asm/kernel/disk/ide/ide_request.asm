; IDE requests: issuing, ending, giving up (ACS-3, 7.26 and 7.29).  A channel runs one command at a time, in
; slot 0 of the disk that it is for.

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

; ide_end: a channel's command is over; the other drive's turn.
;   in:        eax  DiskStatus, ecx  disk, esi  Disk, edi  IdeChannel
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
;   state:     IF=0, DF=0
;   leaves by: ide_start
ide_end:
        mov     dword ptr [edi + IdeChannel.disk], 0
        xor     edx, edx
        call    disk_complete
        xor     ecx, 1
        call    disk_of
        jmp     ide_start

; ide_error: note why a command failed.
;   in:        ebx  DiskRequest, ecx  disk, eax  status + error register * 256
;   leaves by: ret
ide_error:
        .event  disk.failed disk=ecx error=eax
        mov     [ebx + DiskRequest.error], eax
        ret

; ide_lost: a drive does not answer as it should. If no drive is there its disk is gone; if it stays busy the channel is
; reset and the request fails.  The channel is idle afterwards.
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
