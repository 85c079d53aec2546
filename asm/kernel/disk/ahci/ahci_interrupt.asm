; AHCI interrupts: completion and hot plug (AHCI 1.3.1, 5.6.2, 7.3, 10.7.2).

; Passes over the ports in one interrupt.  A drive that never comes to rest does not keep the CPU here.
PASS_LIMIT = 16

; ahci_interrupt: serve every port that has a cause set.
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
;   state:     IF=0, called by the interrupt stub, which ends the interrupt
;   leaves by: ret
ahci_interrupt:
        mov     ebp, PASS_LIMIT
.again:
        mov     edi, [kernel_words + KernelWords.ahci_base]
        test    edi, edi
        jz      .done
        mov     eax, [edi + HbaRegisters.is_]
        test    eax, eax
        jz      .done
        dec     ebp
        jz      .later
.port:
        bsf     ecx, eax
        jz      .again
        btr     eax, ecx
        push    eax
        push    ebp
        call    ahci_serve
        pop     ebp
        pop     eax
        jmp     .port

        ; The line is still asserted, and the 8259A looks for edges: make one.
.later:
        mov     dword ptr [edi + HbaRegisters.ghc], HostControl.AE
        mov     dword ptr [edi + HbaRegisters.ghc], HostControl.AE | HostControl.IE
.done:
        ret

; ahci_serve: serve one port.
;   in:        ecx  port
;   clobbers:  eax, ebx, edx, esi, edi, ebp, flags
;   state:     IF=0
;   leaves by: ahci_start, or where the port's causes lead
ahci_serve:
        call    ahci_port
        call    disk_of
        mov     ebp, [edi + PortRegisters.is_]
        test    ebp, PLUG_CAUSES
        jnz     ahci_plug

        ; The port's causes first, then the controller's bit, then a look at the commands (10.7.2.1): a
        ; command that ends after the look finds its causes clear and sets them again.
        mov     [edi + PortRegisters.is_], ebp
        call    ahci_acknowledge
        call    ahci_completed
        test    ebp, ERROR_CAUSES
        jnz     ahci_recover
        jmp     ahci_start

; ahci_acknowledge: clear a port's bit in the controller's interrupt status.
;   in:        ecx  port
;   clobbers:  eax, edx, flags
;   leaves by: ret
ahci_acknowledge:
        xor     eax, eax
        bts     eax, ecx
        mov     edx, [kernel_words + KernelWords.ahci_base]
        mov     [edx + HbaRegisters.is_], eax
        ret

; ahci_completed: end every request whose command the port no longer holds.
;   in:        esi  Disk, edi  PortRegisters
;   clobbers:  eax, ebx, edx, flags
;   state:     IF=0
;   leaves by: ret
ahci_completed:
        push    ebp
        mov     ebp, [edi + PortRegisters.sact]
        or      ebp, [edi + PortRegisters.ci]
        or      ebp, [esi + Disk.parked]
        not     ebp
        and     ebp, [esi + Disk.issued]
.next:
        bsf     edx, ebp
        jz      .none
        btr     ebp, edx
        mov     eax, DiskStatus.DONE
        call    disk_complete
        jmp     .next
.none:
        pop     ebp
        ret

; ahci_plug: a drive was removed or plugged in, or both: the requests of the old one end.
;   in:        ecx  port, esi  Disk, edi  PortRegisters
;   clobbers:  eax, ebx, edx, ebp, flags
;   state:     IF=0
;   leaves by: ret
ahci_plug:
        ; PCS and PRCS mirror bits of PxSERR and are cleared with them (3.3.5).
        mov     dword ptr [edi + PortRegisters.serr], -1
        mov     dword ptr [edi + PortRegisters.is_], -1
        call    ahci_acknowledge
        call    ahci_give_up
        jc      .done
        call    ahci_linked
        jc      .done
        call    ahci_port_init
.done:
        .event  disk.plug disk=ecx
        ret

; ahci_give_up: stop a port for good or until another drive comes, and end all requests of its disk.
;   in:        ecx  port, esi  Disk, edi  PortRegisters
;   out:       CF=1  the port does not stop: it is never used again
;   clobbers:  eax, ebx, edx, flags
;   state:     IF=0
;   leaves by: ret
ahci_give_up:
        call    ahci_listen
        pushfd
        call    disk_abandon
        popfd
        ret
