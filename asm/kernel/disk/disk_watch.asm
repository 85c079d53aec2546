; Commands that never end: a drive or its controller may stop answering without an interrupt. A parallel drive that is
; removed always does.

; disk_watch: give up commands that have been in flight at two calls without a sign of life between them.
; The caller, a timer or a thread, sets the limit: a drive that works on a bad sector takes seconds. Interrupts that
; were lost are made up for at the second call, and no request fails for them.
;   clobbers:  nothing but flags
;   state:     ring 0, any IF; DS and ES flat
;   leaves by: ret
disk_watch:
        pushfd
        cli
        pushad
        xor     ecx, ecx
.disk:
        call    disk_of
        cmp     dword ptr [esi + Disk.watched], 0
        je      .look
        push    ecx
        call    disk_silent
        pop     ecx
        call    disk_of

        ; Commands in flight now have until the next call.
.look:
        mov     eax, [esi + Disk.issued]
        xor     eax, [esi + Disk.parked]
        mov     [esi + Disk.watched], eax
        inc     ecx
        cmp     ecx, DISKS
        jb      .disk
        popad
        popfd
        ret

; disk_silent: look at a disk's controller; reset the drive if commands have still not moved.
;   in:        ecx  disk, esi  Disk, its `watched` not 0
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
;   state:     IF=0
;   leaves by: ret, or the controller's routine
disk_silent:
        cmp     ecx, IDE_FIRST_DISK
        jae     .ide
        call    ahci_serve
        cmp     dword ptr [esi + Disk.watched], 0
        je      .alive
        .event  disk.timeout disk=ecx
        mov     ebp, [edi + PortRegisters.tfd]
        jmp     ahci_reset_drive

.ide:
        push    ecx
        push    esi
        and     ecx, ~1                 ; the channel's first disk has an even number
        call    ide_serve
        pop     esi
        pop     ecx
        cmp     dword ptr [esi + Disk.watched], 0
        je      .alive
        .event  disk.timeout disk=ecx
        call    ide_channel
        mov     ebx, [esi + Disk.requests]
        call    ide_lost
        jmp     ide_start

.alive:
        ret
