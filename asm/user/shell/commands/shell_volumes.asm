; Volumes: finding the one that a path lies on; df, vol.

; path_volume: find the volume that `path` lies on.
;   out:       CF=0  volume  its VolumeInformation        CF=1  none (the root of everything)
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
path_volume:
        mov     esi, path + 1
        mov     edi, volume_name
        mov     ecx, 15
.byte:
        lodsb
        test    al, al
        jz      .named
        cmp     al, '/'
        je      .named
        stosb
        dec     ecx
        jnz     .byte
        stc
        ret
.named:
        mov     byte ptr [edi], 0

; find_volume: find a volume by its name.
;   in:        volume_name
;   out, clobbers: as path_volume
VOLUME_NAME_SIZE = 16
find_volume:
        mov     ebx, VOLUME_UNASKED
.next:
        mov     edi, volume
        SYSTEM  VOLUME_INFORMATION
        jc      .done
        mov     esi, volume + VolumeInformation.name
        mov     edi, volume_name
        call    same_word
        je      .found
        inc     ebx
        jmp     .next

        ; Only the server of the volume in question is asked.
.found:
        sub     ebx, VOLUME_UNASKED
        mov     edi, volume
        SYSTEM  VOLUME_INFORMATION
.done:
        ret

; free_bytes: free space of `volume`.
;   out:       edx:eax  bytes
;   clobbers:  ecx, flags
free_bytes:
        mov     ecx, [volume + VolumeInformation.cluster_bytes]
        mov     eax, [volume + VolumeInformation.free_clusters + 4]
        mul     ecx
        push    eax
        mov     eax, [volume + VolumeInformation.free_clusters]
        mul     ecx
        pop     ecx
        add     edx, ecx
        ret

; put_free: show free space of `volume`, a dash if it is not known.
;   in:        edx:eax  number, ecx  width
;   clobbers:  eax, flags
put_free:
        test    dword ptr [volume + VolumeInformation.flags], VolumeFlags.NO_FREE_SPACE
        jz      put_decimal
        push    ecx
.blank:
        dec     ecx
        jz      .dash
        call    put_space
        jmp     .blank
.dash:
        mov     al, '-'
        call    put_character
        pop     ecx
        ret

; command_df: `df`.  Volumes whose servers do not answer at once come last, so that the others are shown without waiting
; for them.
;   out:       eax  status
command_df:
        mov     esi, df_head
        call    put_line
        mov     dword ptr [df_silent], 0
        xor     ebp, ebp
.next:
        lea     ebx, [ebp + VOLUME_BRIEFLY]
        mov     edi, volume
        SYSTEM  VOLUME_INFORMATION
        jc      .slow
        test    dword ptr [volume + VolumeInformation.flags], VolumeFlags.NOT_ANSWERED
        jnz     .silent
        call    put_df
        inc     ebp
        jmp     .next
.silent:
        bts     [df_silent], ebp
        inc     ebp
        jmp     .next

        ; There are at most 32 volumes.
.slow:
        call    flush
.again:
        bsf     ebx, [df_silent]
        jz      .done
        btr     [df_silent], ebx
        mov     edi, volume
        SYSTEM  VOLUME_INFORMATION
        jc      .done
        call    put_df
        call    flush
        jmp     .again
.done:
        xor     eax, eax
        ret

; put_df: the row of `df` for `volume`.
;   clobbers:  eax, ecx, edx, esi, flags
put_df:
        mov     al, '/'
        call    put_character
        mov     esi, volume + VolumeInformation.name
        mov     ecx, 9
        call    put_field
        mov     esi, volume + VolumeInformation.file_system
        mov     ecx, 8
        call    put_field
        test    dword ptr [volume + VolumeInformation.flags], VolumeFlags.NOT_ANSWERED
        jnz     .silent
        mov     eax, [volume + VolumeInformation.total_clusters]
        mov     edx, [volume + VolumeInformation.total_clusters + 4]
        mov     ecx, 12
        call    put_decimal
        mov     eax, [volume + VolumeInformation.free_clusters]
        mov     edx, [volume + VolumeInformation.free_clusters + 4]
        call    put_free
        mov     eax, [volume + VolumeInformation.cluster_bytes]
        xor     edx, edx
        call    put_decimal
        call    free_bytes
        mov     ecx, 16
        call    put_free
        jmp     newline
.silent:
        mov     esi, volume_silent
        jmp     put_line

; command_vol: `vol [VOLUME]`, by default the one of the current directory; a path names the volume it lies on.
; The root stands for all volumes.
;   out:       eax  status
command_vol:
        mov     esi, directory
        cmp     dword ptr [word_count], 2
        jb      .path
        mov     esi, [words + 4]
        cmp     byte ptr [esi], '/'
        je      .path
        cmp     byte ptr [esi], '\\'
        je      .path
        mov     edi, volume_name
        mov     ecx, VOLUME_NAME_SIZE
        call    copy_string
        call    find_volume
        jmp     .found
.path:
        call    resolve_path
        jc      .unknown
        xor     ebp, ebp
        cmp     byte ptr [path + 1], 0
        je      .every
        call    path_volume
.found:
        jc      .unknown
        call    put_volume
.good:
        xor     eax, eax
        ret

.every:
        mov     ebx, ebp
        mov     edi, volume
        SYSTEM  VOLUME_INFORMATION
        jc      .good
        call    put_volume
        inc     ebp
        jmp     .every

.unknown:
        mov     esi, directory
        cmp     dword ptr [word_count], 2
        jb      .word
        mov     esi, [words + 4]
.word:
        mov     edi, no_volume
        jmp     report_word

; put_volume: append what `vol` says of `volume`.
;   clobbers:  eax, esi, flags
put_volume:
        mov     esi, vol_volume
        call    put_string
        mov     esi, volume + VolumeInformation.name
        call    put_string
        mov     esi, volume_silent
        test    dword ptr [volume + VolumeInformation.flags], VolumeFlags.NOT_ANSWERED
        jnz     put_line
        mov     esi, vol_no_label
        cmp     byte ptr [volume + VolumeInformation.label], 0
        je      .label
        mov     esi, vol_label
        call    put_string
        mov     esi, volume + VolumeInformation.label
.label:
        call    put_line
        mov     esi, vol_serial
        call    put_string
        mov     eax, [volume + VolumeInformation.serial]
        call    put_hex
        mov     esi, vol_system
        call    put_string
        mov     esi, volume + VolumeInformation.file_system
        jmp     put_line

        .rodata
df_head:
        .asciz  "volume    system      clusters        free  bytes each      bytes free"
volume_silent:
        .asciz  " does not answer"
no_volume:
        .asciz  ": no such volume"
vol_volume:
        .asciz  "volume /"
vol_label:
        .asciz  ", label "
vol_no_label:
        .asciz  ", no label"
vol_serial:
        .asciz  "serial number "
vol_system:
        .asciz  ", file system "
        .bss
        .align  4
df_silent:
        .space  4
volume_name:
        .space  VOLUME_NAME_SIZE
        .text
