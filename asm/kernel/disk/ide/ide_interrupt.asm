; IDE interrupts: the drive offers a block of data, or reports an error (ATA8-APT, PIO data-in protocol).

; ide_interrupt: serve both channels; the drives' state, not the line, says what there is to do.
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
;   leaves by: ret, ide_end or ide_start
ide_serve:
        call    ide_channel
        mov     esi, [edi + IdeChannel.disk]
        test    esi, esi
        jz      .idle
        mov     ebx, [esi + Disk.requests]
        movzx   ecx, word ptr [ebx + DiskRequest.disk]

        ; Alternate status does not clear the interrupt, in case it is the other channel's.
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
        mov     dword ptr [esi + Disk.watched], 0
        call    ide_block
        mov     eax, [edi + IdeChannel.done]
        cmp     eax, [ebx + DiskRequest.sectors]
        jb      .not_yet
        mov     eax, DiskStatus.DONE
        jmp     ide_end

.failed:
        movzx   eax, al
        lea     edx, [ebp + IdeRegister.ERROR]
        mov     ah, al
        in      al, dx
        xchg    al, ah
        call    ide_error
        mov     eax, DiskStatus.FAILED
        jmp     ide_end

.lost:
        call    ide_lost
        jmp     ide_start

.idle:
        lea     edx, [ebp + IdeRegister.STATUS]
        in      al, dx
.not_yet:
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
        call    disk_page
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
