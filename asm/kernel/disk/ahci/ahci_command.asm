; AHCI commands: from the queue to the controller (AHCI 1.3.1, 4.2, 5.5.1).

COMMAND_LIST_SHIFT = 10         ; log2 of the sizes below
COMMAND_HEADER_SHIFT = 5
COMMAND_TABLE_SHIFT = 10
COMMAND_TABLES_SHIFT = 15
RECEIVED_SHIFT = 8
SLOTS_SHIFT = 5
PRDT_ENTRY_SHIFT = 4

        .assert 1 << COMMAND_LIST_SHIFT == AHCI_SLOTS * sizeof(CommandHeader), "command list"
        .assert 1 << COMMAND_HEADER_SHIFT == sizeof(CommandHeader), "command header"
        .assert 1 << COMMAND_TABLE_SHIFT == sizeof(CommandTable), "command table"
        .assert 1 << COMMAND_TABLES_SHIFT == AHCI_SLOTS * sizeof(CommandTable), "command tables"
        .assert 1 << RECEIVED_SHIFT == sizeof(ReceivedFis), "received-FIS area"
        .assert 1 << SLOTS_SHIFT == AHCI_SLOTS, "command slots"
        .assert 1 << PRDT_ENTRY_SHIFT == sizeof(PrdtEntry), "PRDT entry"
        .assert DISK_REQUEST_PAGES * PAGE_SIZE <= AHCI_PRDT_LIMIT, "merged runs outgrow a PRDT entry"

LBA_HIGH_HALF = 3               ; LBA bytes 3 to 5 go to the FIS's second group of three
LBA_HALF_MASK = 0xffffff        ; a group of three bytes; the fourth of the dword is another field
FIS_DEVICE_SHIFT = 24
FIS_COMMAND_SHIFT = 16

; ahci_start: issue as much of a disk's queue as there are command slots.
;   in:        esi  Disk, ecx  port
;   clobbers:  eax, ebx, edx, edi, ebp, flags
;   state:     IF=0
;   leaves by: ret
ahci_start:
        xor     ebp, ebp
        cmp     [esi + Disk.suspects], ebp
        jne     .alone
.next:
        cmp     dword ptr [esi + Disk.queue_head], 0
        je      .issue
        mov     eax, [esi + Disk.issued]
        not     eax
        bsf     edx, eax
        jz      .issue
        cmp     dl, [esi + Disk.queue_depth]
        jae     .issue
        call    disk_take
        call    ahci_build
        bts     ebp, edx
        jmp     .next

.issue:
        ; One register write tells the controller of all of them.
        mov     eax, ebp
        test    eax, eax
        jnz     ahci_issue
.done:
        ret

        ; After an error whose command is not known: the lowest suspect, when nothing else is in flight.
.alone:
        mov     eax, [esi + Disk.parked]
        cmp     eax, [esi + Disk.issued]
        jne     .done
        lea     edx, [eax - 1]
        and     edx, eax
        mov     [esi + Disk.parked], edx
        xor     eax, edx

; ahci_issue: hand built commands to the port (5.5.1); NCQ commands set their tags first.
;   in:        eax  mask of command slots, ecx  port, esi  Disk
;   clobbers:  edi, flags
;   state:     IF=0
;   leaves by: ret
ahci_issue:
        call    ahci_port
        cmp     byte ptr [esi + Disk.queue_depth], 1
        jbe     .plain
        mov     [edi + PortRegisters.sact], eax
.plain:
        .event  disk.issue disk=ecx slots=eax
        mov     [edi + PortRegisters.ci], eax
        ret

; ahci_build: make the command for a request: header, Register FIS, PRDT.
;   in:        ebx  DiskRequest, ecx  port, edx  command slot, esi  Disk
;   clobbers:  eax, edi, flags
;   leaves by: ret
ahci_build:
        push    ebx
        push    ecx
        push    edx
        push    esi
        push    ebp

        ; Headers and tables of all ports lie one after the other.
        shl     ecx, SLOTS_SHIFT
        add     ecx, edx
        mov     ebp, ecx
        shl     ecx, COMMAND_TABLE_SHIFT
        shl     ebp, COMMAND_HEADER_SHIFT
        lea     edi, [command_tables + ecx]
        add     ebp, command_lists

        ; The sectors' number, with the device register and the upper features byte above its halves.
        mov     eax, [ebx + DiskRequest.lba]
        and     eax, LBA_HALF_MASK
        or      eax, DEVICE_LBA << FIS_DEVICE_SHIFT
        mov     [edi + RegisterFis.lba0], eax
        mov     eax, [ebx + DiskRequest.lba + LBA_HIGH_HALF]
        and     eax, LBA_HALF_MASK
        mov     [edi + RegisterFis.lba3], eax

        ; NCQ has the sector count where other commands have features, and its tag in the count field.
        mov     ecx, [ebx + DiskRequest.sectors]
        cmp     byte ptr [esi + Disk.queue_depth], 1
        ja      .queued
        mov     dword ptr [edi + RegisterFis.type], FIS_PLAIN
        mov     [edi + RegisterFis.count], ecx
        jmp     .prdt
.queued:
        mov     dword ptr [edi + RegisterFis.type], FIS_QUEUED
        mov     [edi + RegisterFis.features], cl
        mov     [edi + RegisterFis.features_high], ch
        shl     edx, NCQ_TAG_SHIFT
        mov     [edi + RegisterFis.count], edx

.prdt:
        shl     ecx, SECTOR_SHIFT
        mov     edx, ecx
        call    ahci_regions
        mov     dword ptr [ebp + CommandHeader.prdbc], 0
        shl     eax, COMMAND_PRDTL_SHIFT - PRDT_ENTRY_SHIFT
        or      eax, COMMAND_FIS_LENGTH
        mov     [ebp + CommandHeader.flags], eax
        pop     ebp
        pop     esi
        pop     edx
        pop     ecx
        pop     ebx
        ret

FIS_START = FisType.REGISTER_H2D | H2D_COMMAND << 8
FIS_PLAIN = FIS_START | AtaCommand.READ_DMA_EXT << FIS_COMMAND_SHIFT
FIS_QUEUED = FIS_START | AtaCommand.READ_FPDMA_QUEUED << FIS_COMMAND_SHIFT

; ahci_regions: fill a PRDT with a request's runs of pages (4.2.3.3); runs that follow each other in physical
; memory share an entry, the last one is cut to what is left.
;   in:        ebx  DiskRequest, edx  bytes, 512 or more; edi  CommandTable
;   out:       eax  bytes of PRDT entries
;   clobbers:  ebx, ecx, edx, edi, esi, flags
;   leaves by: ret
ahci_regions:
        lea     esi, [ebx + DiskRequest.runs]
        push    edi
        add     edi, CommandTable.prdt - sizeof(PrdtEntry)

        ; ECX:EAX is the end of the entry at EDI; at first an odd address, where no page begins.
        mov     eax, 1
.run:
        mov     ebx, [esi]
        and     ebx, RUN_ADDRESS
        cmp     eax, ebx
        jne     .separate
        cmp     ecx, [esi + HIGH]
        je      .extend
.separate:
        add     edi, sizeof(PrdtEntry)
        mov     eax, ebx
        mov     ecx, [esi + HIGH]
        mov     [edi + PrdtEntry.dba], eax
        mov     [edi + PrdtEntry.dba + HIGH], ecx
        mov     dword ptr [edi + PrdtEntry.dbc], -1
.extend:
        mov     ebx, [esi]
        and     ebx, RUN_PAGES
        inc     ebx
        shl     ebx, PAGE_SHIFT
        cmp     edx, ebx
        jae     .whole
        mov     ebx, edx
.whole:
        add     [edi + PrdtEntry.dbc], ebx
        add     eax, ebx
        adc     ecx, 0
        add     esi, RUN_ENTRY
        sub     edx, ebx
        jnz     .run

        lea     eax, [edi - CommandTable.prdt + sizeof(PrdtEntry)]
        pop     edi
        sub     eax, edi
        ret

        .bss
        .align 1024
command_lists:
        .space  AHCI_PORTS << COMMAND_LIST_SHIFT
received:
        .space  AHCI_PORTS << RECEIVED_SHIFT
        .align 128
command_tables:
        .space  AHCI_PORTS << COMMAND_TABLES_SHIFT
        .text
