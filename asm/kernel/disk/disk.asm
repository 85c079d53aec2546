; Disks on any controller: requests, their queues, their ends.
;
; Registers with a fixed meaning in all disk files:
;   EBX   DiskRequest                   ECX   number of the disk; of an AHCI disk that is its port
;   ESI   Disk                          EDX   command slot
;   EDI   PortRegisters (AHCI), IdeChannel (IDE)
;
; Everything here and in the controllers' files runs with interrupts off, and that is its only lock: the
; code is for one CPU.  With more, a spin lock in each Disk (IDE: in each IdeChannel) would go around
; disk_submit and around what the interrupt handlers do for one disk, and `polled_*` would need one of
; their own.

HIGH = 4                        ; from the low half of a 64-bit field to the high one
PAUSE_ROUNDS = 64               ; of two instructions
LBA_UPPER = 6                   ; from an LBA's byte 0 to the bytes that LBA48 does not have
RUN_ENTRY = 8                   ; bytes of a run of pages in DiskRequest.runs
RUN_PAGES = PAGE_SIZE - 1       ; its bits that hold the number of pages - 1 …
RUN_ADDRESS = -PAGE_SIZE        ; … and the lower half of its address

; disk_init: find the controllers and their drives.
;   in:        kernel_words.ahci_base, kernel_words.ide_base; 0 = there is none
;   out:       disk_table
;   clobbers:  eax, ebx, ecx, edx, edi, ebp, flags
;   state:     ring 0, IF=0, before any request; DS and ES flat
;   leaves by: ret
disk_init:
        push    esi
        call    ahci_init
        call    ide_init
        pop     esi
        ret

; disk_pause: what comes between two reads of a register that is waited for.  The device does not answer sooner for being
; asked without a break, and one read of it takes as long as some hundred instructions, on an emulated machine too.
;   clobbers:  flags
;   leaves by: ret
disk_pause:
        push    eax
        mov     eax, PAUSE_ROUNDS
.round:
        dec     eax
        jnz     .round
        pop     eax
        ret

; disk_submit: start a request, or queue it after others of its disk.  Never waits.
;   in:        ebx  linear address of a DiskRequest, status QUEUED
;   out:       DISK_DONE is called when it is over: at once if the disk is gone or the request makes
;              no sense (FAILED, error = command aborted)
;   clobbers:  flags
;   state:     ring 0, any IF; DS and ES flat
;   leaves by: ret
disk_submit:
        pushfd
        cli
        pushad
        movzx   ecx, word ptr [ebx + DiskRequest.disk]
        .event  disk.submit request=ebx disk=ecx
        mov     eax, DiskStatus.REMOVED
        cmp     ecx, DISKS
        jae     .refused
        call    disk_of
        cmp     byte ptr [esi + Disk.present], 0
        je      .refused
        call    disk_check
        jc      .refused

        ; Append to the queue; the driver takes from its head.
        mov     dword ptr [ebx + DiskRequest.next], 0
        mov     eax, [esi + Disk.queue_tail]
        test    eax, eax
        jz      .first
        mov     [eax + DiskRequest.next], ebx
        jmp     .queued
.first:
        mov     [esi + Disk.queue_head], ebx
.queued:
        mov     [esi + Disk.queue_tail], ebx
        call    disk_start
        jmp     .done

.refused:
        call    disk_finish
.done:
        popad
        popfd
        ret

; disk_of: the record of a disk.
;   in:        ecx  number, 0 to DISKS - 1
;   out:       esi  Disk
;   clobbers:  flags
;   leaves by: ret
disk_of:
        imul    esi, ecx, sizeof(Disk)
        add     esi, disk_table
        ret

; disk_check: refuse requests that no command can express; a wrong sector number is for the drive to refuse.
;   in:        ebx  DiskRequest
;   out:       CF=0                     CF=1  eax  DiskStatus.FAILED, and DiskRequest.error
;   clobbers:  eax, edx, flags
;   leaves by: ret
disk_check:
        push    ecx
        mov     eax, [ebx + DiskRequest.run_count]
        mov     edx, [ebx + DiskRequest.sectors]
        dec     eax
        dec     edx
        cmp     eax, DISK_REQUEST_RUNS
        jae     .refuse
        cmp     edx, DISK_REQUEST_PAGES * SECTORS_PER_PAGE
        jae     .refuse
        cmp     word ptr [ebx + DiskRequest.lba + LBA_UPPER], 0
        jne     .refuse

        ; EAX is the index of the last run, EDX becomes that of the page with the last sector, less the pages before it.
        shr     edx, PAGE_SHIFT - SECTOR_SHIFT
.run:
        mov     ecx, [ebx + DiskRequest.runs + eax * RUN_ENTRY]
        and     ecx, RUN_PAGES
        sub     edx, ecx
        jbe     .enough
        dec     edx
        sub     eax, 1
        jnc     .run

.refuse:
        mov     dword ptr [ebx + DiskRequest.error], TaskFile.DRDY | TaskFile.ERR | TaskFile.ABRT
        mov     eax, DiskStatus.FAILED
        pop     ecx
        stc
        ret

.enough:
        pop     ecx
        clc
        ret

; disk_page: where a page of a request lies.
;   in:        ebx  DiskRequest, edx  index of the page, within its runs
;   out:       edx:eax  physical address
;   clobbers:  flags
;   leaves by: ret
disk_page:
        push    esi
        lea     esi, [ebx + DiskRequest.runs - RUN_ENTRY]
        inc     edx
.run:
        dec     edx
        add     esi, RUN_ENTRY
        mov     eax, [esi]
        and     eax, RUN_PAGES
        sub     edx, eax
        ja      .run

        ; EDX is now 0 for the last page of the run at ESI, -1 for the one before, and so on.
        add     edx, eax
        shl     edx, PAGE_SHIFT
        mov     eax, [esi]
        and     eax, RUN_ADDRESS
        add     eax, edx
        mov     edx, [esi + HIGH]
        adc     edx, 0
        pop     esi
        ret

; disk_start: give a disk's controller as much of its queue as it takes.
;   in:        esi  Disk, ecx  its number
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
;   state:     IF=0, DF=0
;   leaves by: the controller's routine
disk_start:
        cmp     ecx, IDE_FIRST_DISK
        jb      ahci_start
        jmp     ide_start

; disk_take: move the first request of the queue to a command slot.
;   in:        esi  Disk, its queue not empty, edx  free command slot
;   out:       ebx  the DiskRequest, ACTIVE
;   clobbers:  eax, flags
;   state:     IF=0
;   leaves by: ret
disk_take:
        mov     ebx, [esi + Disk.queue_head]
        mov     eax, [ebx + DiskRequest.next]
        mov     [esi + Disk.queue_head], eax
        test    eax, eax
        jnz     .more
        mov     [esi + Disk.queue_tail], eax
.more:
        mov     [esi + Disk.requests + edx * 4], ebx
        mov     byte ptr [ebx + DiskRequest.status], DiskStatus.ACTIVE
        mov     [ebx + DiskRequest.command_slot], dl
        mov     eax, [esi + Disk.issued]
        bts     eax, edx
        mov     [esi + Disk.issued], eax
        ret

; disk_complete: the command in a slot has ended; the slot is free again before its end is reported.
;   in:        esi  Disk, edx  command slot, 0 to 31, in use; eax  DiskStatus
;   clobbers:  eax, ebx, flags
;   state:     IF=0
;   leaves by: disk_finish
disk_complete:
        xor     ebx, ebx
        bts     ebx, edx
        not     ebx
        and     [esi + Disk.issued], ebx
        and     [esi + Disk.suspects], ebx
        and     [esi + Disk.parked], ebx
        and     [esi + Disk.watched], ebx
        mov     ebx, [esi + Disk.requests + edx * 4]

; disk_finish: a request has ended; its maker may reuse it from here on.
;   in:        ebx  DiskRequest, eax  DiskStatus; FAILED: DiskRequest.error
;   clobbers:  eax, flags
;   state:     IF=0
;   leaves by: ret
disk_finish:
        mov     [ebx + DiskRequest.status], al
        .event  disk.done request=ebx status=eax
        mov     eax, ebx
        HOST    DISK_DONE
        jmp     lists_arrived

; disk_abandon: a disk is gone; end all of its requests.  Its controller must have stopped: memory that is given back
; must no longer be written. Policy is told after the last of them.
;   in:        esi  Disk, ecx  its number
;   clobbers:  eax, ebx, edx, flags
;   state:     IF=0
;   leaves by: ret
disk_abandon:
        mov     byte ptr [esi + Disk.present], 0
.issued:
        bsf     edx, [esi + Disk.issued]
        jz      .queue
        mov     eax, DiskStatus.REMOVED
        call    disk_complete
        jmp     .issued

        ; Nothing can be added meanwhile: disk_submit finds the disk absent.
.queue:
        mov     dword ptr [esi + Disk.queue_tail], 0
        mov     ebx, [esi + Disk.queue_head]
        test    ebx, ebx
        jz      .empty
        mov     eax, [ebx + DiskRequest.next]
        mov     [esi + Disk.queue_head], eax
        mov     eax, DiskStatus.REMOVED
        call    disk_finish
        jmp     .queue
.empty:
        mov     eax, ecx
        HOST    DISK_CHANGED
        ret

        .bss
        .align 16
disk_table:
        .space  DISKS * sizeof(Disk)
        .text
