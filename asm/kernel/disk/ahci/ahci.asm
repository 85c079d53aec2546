; The AHCI controller: resetting it, bringing up its ports (AHCI 1.3.1, 10.1.2, 10.4).

; Bounds of waits, in reads of a register.  A read of uncached memory on a bus takes 0.5 to 1 us on
; real hardware, so these are about a second, 10 ms and some ms; the specification's are 1 s (10.4.3),
; 10 ms (10.1.1) and 1 ms (10.4.2).  Tests of dead hardware assemble with a smaller POLL_LIMIT.
        .ifndef POLL_LIMIT
POLL_LIMIT = 1000000
        .endif
LINK_POLLS = 10000
RESET_READS = 5000

; disk, plug and error causes of a port.  Nothing is gained by asking for each data structure (DPS) or
; for overflows (OFS: the command's own end tells).
PLUG_CAUSES = PortInterrupt.PCS | PortInterrupt.PRCS
ERROR_CAUSES = PortInterrupt.TFES | PortInterrupt.HBFS | PortInterrupt.HBDS | PortInterrupt.IFS
PORT_CAUSES = PortInterrupt.DHRS | PortInterrupt.SDBS | PLUG_CAUSES | ERROR_CAUSES

; ahci_init: reset the controller and bring up every port with a drive; the others listen for one.
;   in:        kernel_words.ahci_base, 0 = there is none
;   out:       disk_table
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
;   state:     ring 0, IF=0, before any request
;   leaves by: ret
ahci_init:
        mov     edi, [kernel_words + KernelWords.ahci_base]
        test    edi, edi
        jz      .done
        call    ahci_reset
        jc      .done

        ; The disk cache lies above 4 GiB: a controller that cannot reach it is of no use.
        test    dword ptr [edi + HbaRegisters.cap], Capabilities.S64A
        jz      .done

        mov     ebp, [edi + HbaRegisters.pi]
.port:
        bsf     ecx, ebp
        jz      .ready
        btr     ebp, ecx
        push    ebp
        call    disk_of
        call    ahci_port
        call    ahci_listen
        jc      .next
        call    ahci_await_link
        jc      .next
        call    ahci_port_init
.next:
        pop     ebp
        jmp     .port

.ready:
        mov     edi, [kernel_words + KernelWords.ahci_base]
        mov     dword ptr [edi + HbaRegisters.is_], -1
        mov     dword ptr [edi + HbaRegisters.ghc], HostControl.AE | HostControl.IE
.done:
        ret

; ahci_reset: reset the controller (10.4.3).  AE must be set before any other register is touched, and
; the reset clears it again where it is not fixed.
;   in:        edi  HbaRegisters
;   out:       CF=1  the controller hangs
;   clobbers:  edx, flags
;   leaves by: ret
ahci_reset:
        mov     dword ptr [edi + HbaRegisters.ghc], HostControl.AE
        mov     dword ptr [edi + HbaRegisters.ghc], HostControl.AE | HostControl.HR
        mov     edx, POLL_LIMIT
.wait:
        test    dword ptr [edi + HbaRegisters.ghc], HostControl.HR
        jz      .over
        call    disk_pause
        dec     edx
        jnz     .wait
        stc
        ret

.over:
        mov     dword ptr [edi + HbaRegisters.ghc], HostControl.AE
        clc
        ret

; ahci_port: registers of a port.
;   in:        ecx  port
;   out:       edi  PortRegisters
;   clobbers:  flags
;   leaves by: ret
ahci_port:
        mov     edi, ecx
        shl     edi, AHCI_PORT_SHIFT
        add     edi, [kernel_words + KernelWords.ahci_base]
        add     edi, AHCI_PORT_BASE
        ret

; ahci_port_init: find out what is connected to a port whose link is up; a usable drive's Disk becomes present.
; Waits for the drive with interrupts off: milliseconds, when one is plugged in.
;   in:        ecx  port, esi  Disk, edi  PortRegisters; ahci_listen done
;   clobbers:  eax, ebx, edx, ebp, flags
;   state:     IF=0
;   leaves by: ret
ahci_port_init:
        call    ahci_run
        jc      .none

        ; The signature is valid once the drive is no longer busy.
        cmp     dword ptr [edi + PortRegisters.sig], AHCI_SIGNATURE_ATA
        jne     .none
        mov     eax, AtaCommand.IDENTIFY_DEVICE
        xor     edx, edx
        call    ahci_polled
        jc      .none
        call    disk_identified
        jc      .none
        call    ahci_depth
        mov     dword ptr [edi + PortRegisters.ie], PORT_CAUSES
        call    disk_appear
        .event  disk.found disk=ecx
        ret

.none:
        call    ahci_listen
        ret

; ahci_depth: how many commands may be in flight: more than one is NCQ, which both sides must know.
;   in:        polled_data, esi  Disk
;   clobbers:  eax, ebx, edx, flags
;   leaves by: ret
ahci_depth:
        mov     ebx, [kernel_words + KernelWords.ahci_base]
        mov     eax, [ebx + HbaRegisters.cap]
        test    eax, Capabilities.SNCQ
        jz      .done
        test    word ptr [polled_data + IDENTIFY_SATA], SATA_NCQ
        jz      .done
        shr     eax, CAP_SLOTS_SHIFT
        and     eax, CAP_SLOTS_MASK
        movzx   edx, word ptr [polled_data + IDENTIFY_QUEUE]
        and     edx, QUEUE_MASK

        ; Both count from 0; the smaller one holds.
        cmp     eax, edx
        jbe     .smaller
        mov     eax, edx
.smaller:
        inc     eax
        mov     [esi + Disk.queue_depth], al
.done:
        ret

SATA_NCQ = 0x100                ; IDENTIFY DEVICE word 76
QUEUE_MASK = 0x1f               ; IDENTIFY DEVICE word 75; also a tag in the NCQ error log
CAP_SLOTS_SHIFT = 8             ; CAP.NCS
CAP_SLOTS_MASK = 0x1f
