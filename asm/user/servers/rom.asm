; The server of /rom: files and directory pages of an image in its own memory, given out as objects.
;
; A file's number is the index of its entry plus one; the server keeps nothing for an open file or a locked directory,
; since the image never changes.

IMAGE = USER_HEAP
DIRECTORY_VERSION = 1
CLUSTER_BYTES = PAGE_SIZE
OBJECT_LIMIT = MESSAGE_ADDRESSES * PAGE_SIZE

start:
        jmp     serve

; null: return every register.
null:
        mov     ebp, ServerCall.REPLY_REGISTERS
        clc
        ret

; free_space: nothing is free, everything is used.
;   out:       edx:eax  free clusters, ecx  bytes per cluster, edi:esi  clusters
free_space:
        xor     eax, eax
        xor     edx, edx
        mov     ecx, CLUSTER_BYTES
        mov     esi, [IMAGE + RomHeader.size]
        shr     esi, PAGE_SHIFT
        xor     edi, edi
        jmp     null

; volume: label and flags.
;   in:        ebp  message
;   out:       data reply: label; eax  VolumeFlags, ebx  serial number, ecx  bytes
volume:
        mov     dword ptr [ebp + Message.data], 'R' | 'O' << 8 | 'M' << 16
        mov     dword ptr [ebp + Message.count], 3
        mov     eax, VolumeFlags.CASE_SENSITIVE | VolumeFlags.READ_ONLY
        xor     ebx, ebx
        mov     ecx, 3
        mov     ebp, ServerCall.REPLY_DATA
        clc
        ret

; lock_directory: give out the pages of a directory.
;   in:        ebp  message with a path
;   out:       object reply; ebx  version, ecx  pages, edx  lock, edi  entries
lock_directory:
        call    find
        jc      fail
        mov     ecx, ErrorCode.NOT_DIRECTORY
        test    dword ptr [esi + RomEntry.attributes], FileAttributes.DIRECTORY
        jz      refuse
        mov     eax, [esi + RomEntry.data]
        add     eax, IMAGE
        mov     [ebp + Message.data], eax
        mov     ecx, [esi + RomEntry.size]
        mov     [ebp + Message.data + 4], ecx
        shr     ecx, PAGE_SHIFT
        mov     edi, [esi + RomEntry.items]
        mov     ebx, DIRECTORY_VERSION
        xor     edx, edx
        mov     ebp, ServerCall.REPLY_OBJECT
        clc
        ret

; open: find a file.
;   in:        ebp  message with a path
;   out:       eax  file number, edx:ecx  size, ebx  attributes
open:
        call    find
        jc      fail
        mov     ecx, [esi + RomEntry.size]
        xor     edx, edx
        mov     ebx, [esi + RomEntry.attributes]
        jmp     null

; read: give out pages of a file.
;   in:        ebp  message, ebx  file number, edx:eax  position, ecx  bytes wanted
;   out:       object reply; eax  bytes covered, edx:ecx  position of the first page
read:
        mov     edi, eax
        mov     ecx, ErrorCode.BAD_HANDLE
        lea     eax, [ebx - 1]
        cmp     eax, [IMAGE + RomHeader.entries]
        jae     refuse
        imul    eax, eax, sizeof(RomEntry)
        lea     esi, [eax + IMAGE + sizeof(RomHeader)]
        test    edx, edx
        jnz     .end
        and     edi, -PAGE_SIZE
        mov     eax, [esi + RomEntry.size]
        sub     eax, edi
        jbe     .end
        cmp     eax, OBJECT_LIMIT
        jbe     .bounded
        mov     eax, OBJECT_LIMIT
.bounded:
        mov     ecx, [esi + RomEntry.data]
        lea     ecx, [ecx + edi + IMAGE]
        mov     [ebp + Message.data], ecx
        mov     [ebp + Message.data + 4], eax
        mov     ecx, edi
        mov     ebp, ServerCall.REPLY_OBJECT
        clc
        ret
.end:
        xor     eax, eax
        mov     ecx, edi
        jmp     null

; find: look a path up.
;   in:        ebp  message with a path
;   out:       CF=0  esi  RomEntry, eax  its index plus one        CF=1  eax  ErrorCode
;   clobbers:  ebx, ecx, edx, edi, flags
find:
        mov     edx, [ebp + Message.count]
        cmp     edx, MESSAGE_DATA_SIZE
        ja      .missing
        test    edx, edx
        jz      .search
        cmp     byte ptr [ebp + Message.data + edx - 1], '/'
        jne     .search
        dec     edx
.search:
        mov     esi, IMAGE + sizeof(RomHeader)
        xor     eax, eax
.entry:
        cmp     eax, [IMAGE + RomHeader.entries]
        jae     .missing
        inc     eax
        cmp     edx, [esi + RomEntry.path_length]
        jne     .next
        push    esi
        mov     esi, [esi + RomEntry.path]
        add     esi, IMAGE
        lea     edi, [ebp + Message.data]
        mov     ecx, edx
        test    ecx, ecx
        repe cmpsb
        pop     esi
        je      .found
.next:
        add     esi, sizeof(RomEntry)
        jmp     .entry
.found:
        clc
        ret
.missing:
        mov     eax, ErrorCode.NOT_FOUND
        stc
        ret

; refuse: end a handler with the ErrorCode in ECX.
refuse:
        mov     eax, ecx
fail:
        mov     ebp, ServerCall.REPLY_REGISTERS
        stc
        ret

        .rodata
        .align 4
; Indexed by Operation.
operations:
        .long   null, free_space, volume, lock_directory, null, open, null, read
OPERATIONS = ($ - operations) / 4
        .text

        .include "server.asm"
