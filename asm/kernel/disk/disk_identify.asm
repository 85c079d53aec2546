; IDENTIFY DEVICE: what a drive reports of itself (ACS-3, 7.12.7).

IDENTIFY_WORD = 2               ; bytes: IDENTIFY DEVICE counts in words
IDENTIFY_GENERAL = 0 * IDENTIFY_WORD
IDENTIFY_MODEL = 27 * IDENTIFY_WORD
IDENTIFY_MULTIPLE = 47 * IDENTIFY_WORD
IDENTIFY_QUEUE = 75 * IDENTIFY_WORD
IDENTIFY_SATA = 76 * IDENTIFY_WORD
IDENTIFY_COMMANDS = 83 * IDENTIFY_WORD
IDENTIFY_SECTORS = 100 * IDENTIFY_WORD
IDENTIFY_SECTOR_SIZE = 106 * IDENTIFY_WORD

GENERAL_NOT_ATA = 0x8000        ; word 0
COMMANDS_MASK = 0xc400          ; word 83: bits 15 and 14 are 01 if it is valid, bit 10: 48-bit addresses
COMMANDS_LBA48 = 0x4400
SECTOR_SIZE_MASK = 0xd000       ; word 106: the same in bits 15 and 14, bit 12: not 512 bytes
SECTOR_SIZE_OTHER = 0x5000

; disk_identified: fill a Disk from IDENTIFY DEVICE; queue_depth and block_sectors become 1.
;   in:        polled_data, esi  Disk
;   out:       CF=0                     CF=1  a drive that cannot be used: no 48-bit addresses, sectors
;                                             that are not 512 bytes, no sectors, or no ATA drive
;   clobbers:  eax, ebx, edx, flags
;   leaves by: ret
disk_identified:
        test    word ptr [polled_data + IDENTIFY_GENERAL], GENERAL_NOT_ATA
        jnz     .unusable
        movzx   eax, word ptr [polled_data + IDENTIFY_COMMANDS]
        and     eax, COMMANDS_MASK
        cmp     eax, COMMANDS_LBA48
        jne     .unusable
        movzx   eax, word ptr [polled_data + IDENTIFY_SECTOR_SIZE]
        and     eax, SECTOR_SIZE_MASK
        cmp     eax, SECTOR_SIZE_OTHER
        je      .unusable
        mov     eax, [polled_data + IDENTIFY_SECTORS]
        mov     edx, [polled_data + IDENTIFY_SECTORS + HIGH]
        mov     [esi + Disk.sectors], eax
        mov     [esi + Disk.sectors + HIGH], edx
        or      eax, edx
        jz      .unusable
        mov     byte ptr [esi + Disk.queue_depth], 1
        mov     dword ptr [esi + Disk.block_sectors], 1

        ; ATA strings have the bytes of each word swapped.
        xor     ebx, ebx
.word:
        mov     ax, [polled_data + IDENTIFY_MODEL + ebx]
        xchg    al, ah
        mov     [esi + Disk.model + ebx], ax
        add     ebx, IDENTIFY_WORD
        cmp     ebx, DISK_MODEL_SIZE
        jb      .word
        clc
        ret

.unusable:
        stc
        ret

; disk_appear: a drive can be used from now on.
;   in:        esi  Disk, ecx  its number
;   clobbers:  eax, flags
;   leaves by: ret
disk_appear:
        inc     word ptr [esi + Disk.generation]
        mov     byte ptr [esi + Disk.present], 1
        mov     eax, ecx
        HOST    DISK_CHANGED
        ret

        .bss
        .align 16
polled_data:
        .space  SECTOR_SIZE
        .text
