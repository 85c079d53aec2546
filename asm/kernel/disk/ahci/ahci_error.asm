; AHCI errors: find the failed command, and go on with the others (AHCI 1.3.1, 6.2.2; SATA 3.1, 13.6.8).
;
; An error halts the port.  Stopping it makes the controller forget all of its commands; all but the failed one are
; issued again, which is harmless because they are reads.

NCQ_LOG_PAGE = 0x10             ; READ LOG EXT: the queued command that failed
NCQ_LOG_NOT_QUEUED = 0x80       ; byte 0: it was none
INTERFACE_MASK = 0xffff0000     ; causes of PxIS that DiskRequest.error keeps
TASK_FILE_MASK = 0xffff

; ahci_recover: after an error, fail the command that caused it and go on with the rest.
;   in:        ecx  port, esi  Disk, edi  PortRegisters, ebp  PxIS; completed commands are off the disk
;   clobbers:  eax, ebx, edx, ebp, flags
;   state:     IF=0
;   leaves by: ahci_start, or ahci_give_up if the drive does not come back
ahci_recover:
        and     ebp, INTERFACE_MASK
        mov     eax, [edi + PortRegisters.tfd]
        and     eax, TASK_FILE_MASK
        or      ebp, eax
        .event  disk.failed disk=ecx error=ebp
        mov     dword ptr [esi + Disk.watched], 0
        call    ahci_restart
        jc      ahci_give_up
        cmp     byte ptr [esi + Disk.queue_depth], 1
        jbe     ahci_judge

        ; After an error of a queued command a drive takes nothing but this one, so the log is read even if only one
        ; command was in flight.  If it cannot be read, a reset ends the drive's error state.
        push    ebp
        mov     eax, AtaCommand.READ_LOG_EXT
        mov     edx, NCQ_LOG_PAGE
        call    ahci_polled
        pop     ebp
        jc      ahci_reset_drive
        movzx   edx, byte ptr [polled_data]
        test    edx, NCQ_LOG_NOT_QUEUED
        jnz     ahci_judge
        and     edx, QUEUE_MASK
        mov     eax, [esi + Disk.issued]
        xor     eax, [esi + Disk.parked]
        bt      eax, edx
        jc      ahci_condemn
        jmp     ahci_judge

; ahci_reset_drive: reset the drive of a port, run the port again, and go on as after an error whose command
; is not named.
;   in, clobbers, state, leaves by: as ahci_recover; ebp is what DiskRequest.error becomes
ahci_reset_drive:
        call    ahci_stop
        jc      ahci_give_up
        call    ahci_comreset
        or      dword ptr [edi + PortRegisters.cmd], PortCommand.FRE
        call    ahci_run
        jc      ahci_give_up

; ahci_judge: the drive has named no command. If one was in flight, it has failed; if several were, each runs alone from
; here on, until one fails again.
;   in, clobbers, state, leaves by: the same
ahci_judge:
        mov     eax, [esi + Disk.issued]
        xor     eax, [esi + Disk.parked]
        bsf     edx, eax
        jz      ahci_start
        btr     eax, edx
        test    eax, eax
        jz      ahci_condemn
        mov     eax, [esi + Disk.issued]
        mov     [esi + Disk.suspects], eax
        mov     [esi + Disk.parked], eax
        jmp     ahci_start

; ahci_condemn: fail one command; the others that were in flight are issued again at once.
;   in:        besides, edx  its slot
;   clobbers, state, leaves by: the same
ahci_condemn:
        mov     ebx, [esi + Disk.requests + edx * 4]
        mov     [ebx + DiskRequest.error], ebp
        mov     eax, DiskStatus.FAILED
        call    disk_complete
        mov     eax, [esi + Disk.issued]
        xor     eax, [esi + Disk.parked]
        jz      ahci_start
        call    ahci_issue
        jmp     ahci_start

; ahci_restart: stop and run a port.
;   in:        ecx  port, edi  PortRegisters
;   out:       CF=1  it does not stop, or the drive is gone or stays busy
;   clobbers:  eax, edx, flags
;   state:     IF=0
;   leaves by: ret
ahci_restart:
        call    ahci_stop
        jc      .dead
        or      dword ptr [edi + PortRegisters.cmd], PortCommand.FRE
        jmp     ahci_run
.dead:
        ret
