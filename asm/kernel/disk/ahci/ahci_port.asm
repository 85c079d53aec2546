; An AHCI port's engines: stopping, listening, running, resetting (AHCI 1.3.1, 10.3, 10.4.2).

DET_MASK = 0xf                  ; PxSSTS.DET
DET_ESTABLISHED = 3             ; a drive, and communication with it
SCTL_IDLE = 0x300               ; PxSCTL: no partial and slumber states, which look like an unplug (7.3)
SCTL_COMRESET = 0x301

; ahci_stop: stop the command list, then the reception of FISes (10.3.1, 10.3.2): in that order.  When it
; is done the controller no longer touches memory for this port.
;   in:        ecx  port, edi  PortRegisters
;   out:       CF=1  the port does not stop
;   clobbers:  eax, edx, flags
;   state:     IF=0
;   leaves by: ret
ahci_stop:
        mov     eax, PortCommand.ST
        mov     edx, PortCommand.CR
        call    ahci_disengage
        jc      .hung
        mov     eax, PortCommand.FRE
        mov     edx, PortCommand.FR
        jmp     ahci_disengage

        ; A drive that keeps the controller waiting is reset; that ends the command (10.4.2).
.hung:
        call    ahci_comreset
        mov     eax, PortCommand.FRE
        mov     edx, PortCommand.FR
        call    ahci_disengage
        jc      .dead
        test    dword ptr [edi + PortRegisters.cmd], PortCommand.CR
        jnz     .dead
        clc
        ret

.dead:
        stc
        ret

; ahci_disengage: clear an enabling bit of PxCMD and wait for its engine.
;   in:        edi  PortRegisters, eax  the bit, edx  the bit that tells whether the engine runs
;   out:       CF=1  it does not stop
;   clobbers:  eax, edx, flags
;   leaves by: ret
ahci_disengage:
        push    ecx
        not     eax
        and     [edi + PortRegisters.cmd], eax
        mov     ecx, POLL_LIMIT
.wait:
        test    [edi + PortRegisters.cmd], edx
        jz      .stopped
        call    disk_pause
        dec     ecx
        jnz     .wait
        pop     ecx
        stc
        ret

.stopped:
        pop     ecx
        clc
        ret

; ahci_listen: stop a port, give it its memory, and let it report a drive that comes.
;   in:        ecx  port, esi  Disk, edi  PortRegisters
;   out:       CF=1  the port does not stop and is left alone
;   clobbers:  eax, ebx, edx, flags
;   state:     IF=0
;   leaves by: ret
ahci_listen:
        mov     dword ptr [edi + PortRegisters.ie], 0
        call    ahci_stop
        jc      .dead
        call    ahci_memory
        mov     dword ptr [edi + PortRegisters.sctl], SCTL_IDLE
        or      dword ptr [edi + PortRegisters.cmd], PortCommand.SUD | PortCommand.POD
        or      dword ptr [edi + PortRegisters.cmd], PortCommand.FRE
        mov     dword ptr [edi + PortRegisters.ie], PLUG_CAUSES
        clc
        ret

.dead:
        stc
        ret

; ahci_memory: give a port its command list, command tables and received-FIS area.
;   in:        ecx  port, edi  PortRegisters, stopped
;   clobbers:  eax, ebx, edx, flags
;   leaves by: ret
ahci_memory:
        mov     eax, ecx
        shl     eax, COMMAND_LIST_SHIFT
        lea     ebx, [command_lists + eax]
        mov     eax, ebx
        sub     eax, KERNEL_BASE
        mov     [edi + PortRegisters.clb], eax
        mov     dword ptr [edi + PortRegisters.clbu], 0
        mov     eax, ecx
        shl     eax, RECEIVED_SHIFT
        add     eax, received - KERNEL_BASE
        mov     [edi + PortRegisters.fb], eax
        mov     dword ptr [edi + PortRegisters.fbu], 0

        ; Command tables never move: their addresses are written once.
        mov     eax, ecx
        shl     eax, COMMAND_TABLES_SHIFT
        add     eax, command_tables - KERNEL_BASE
        mov     edx, AHCI_SLOTS
.table:
        mov     [ebx + CommandHeader.ctba], eax
        mov     dword ptr [ebx + CommandHeader.ctba + HIGH], 0
        add     eax, sizeof(CommandTable)
        add     ebx, sizeof(CommandHeader)
        dec     edx
        jnz     .table
        ret

; ahci_run: forget old errors and start the command list (10.3.1); FISes are received already, otherwise a new drive
; could not leave its signature.
;   in:        ecx  port, edi  PortRegisters, listening
;   out:       CF=1  no drive, or it stays busy
;   clobbers:  eax, edx, flags
;   state:     IF=0
;   leaves by: ret
ahci_run:
        call    ahci_await_drive
        jnc     .ready
        call    ahci_linked
        jc      .none
        call    ahci_comreset
        jc      .none
        call    ahci_await_drive
        jc      .none
.ready:
        or      dword ptr [edi + PortRegisters.cmd], PortCommand.ST
        clc
.none:
        ret

; ahci_await_drive: clear error registers and wait until the drive takes commands.
;   in:        edi  PortRegisters
;   out:       CF=1  no drive, or it stays busy
;   clobbers:  eax, edx, flags
;   leaves by: ret
ahci_await_drive:
        mov     dword ptr [edi + PortRegisters.serr], -1
        mov     dword ptr [edi + PortRegisters.is_], -1

        ; Read after the clearing: a drive that is removed later sets the cause again.
        call    ahci_linked
        jc      .none
        mov     edx, POLL_LIMIT
.busy:
        test    dword ptr [edi + PortRegisters.tfd], TaskFile.BSY | TaskFile.DRQ
        jz      .ready
        call    disk_pause
        dec     edx
        jnz     .busy
        stc
.none:
        ret

.ready:
        clc
        ret

; ahci_linked: is a drive present, with communication established?
;   in:        edi  PortRegisters
;   out:       CF=1  no
;   clobbers:  eax, flags
;   leaves by: ret
ahci_linked:
        mov     eax, [edi + PortRegisters.ssts]
        and     eax, DET_MASK
        cmp     eax, DET_ESTABLISHED
        je      .linked                 ; equal: CF=0
        stc
.linked:
        ret

; ahci_await_link: give a drive time to show up after a reset; one that comes later is a hot plug.  Nothing is waited
; for where the port has a mechanical presence switch and it is open: no drive is connected (3.3.7, MPSS).
;   in:        edi  PortRegisters
;   out:       CF=1  none
;   clobbers:  eax, edx, flags
;   leaves by: ret
ahci_await_link:
        mov     edx, LINK_POLLS
        call    ahci_linked
        jnc     .linked
        mov     eax, [kernel_words + KernelWords.ahci_base]
        test    dword ptr [eax + HbaRegisters.cap], Capabilities.SMPS
        jz      .wait
        mov     eax, [edi + PortRegisters.cmd]
        not     eax
        test    eax, PortCommand.MPSP | PortCommand.MPSS
        stc
        jz      .linked
.wait:
        call    ahci_linked
        jnc     .linked
        dec     edx
        jnz     .wait
        stc
.linked:
        ret

; ahci_comreset: reset the drive of a port (10.4.2).
;   in:        ecx  port, edi  PortRegisters, ST clear
;   out:       CF=1  no drive afterwards
;   clobbers:  eax, edx, flags
;   leaves by: ahci_await_link
ahci_comreset:
        .event  disk.comreset port=ecx
        mov     dword ptr [edi + PortRegisters.sctl], SCTL_COMRESET
        mov     edx, RESET_READS
.hold:
        mov     eax, [edi + PortRegisters.ssts]
        dec     edx
        jnz     .hold
        mov     dword ptr [edi + PortRegisters.sctl], SCTL_IDLE
        jmp     ahci_await_link
