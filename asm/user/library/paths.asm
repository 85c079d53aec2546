; Paths: absolute, components separated by one slash, no `.` or `..` left.
;
; A leading slash is the root of everything, where volumes are the top directories; a leading backslash
; is the root of the current volume, as DOS has it.

PATH_SIZE = 512

; resolve_path: make a path absolute.
;   in:        esi  path as typed
;   out:       path  the absolute path, ecx  its length; CF=1 if it is too long
;   clobbers:  flags
resolve_path:
        push    eax
        push    ebx
        push    edx
        push    esi
        push    edi
        mov     edi, path
        cmp     byte ptr [esi], '/'
        je      .parts
        push    esi
        mov     esi, directory
        mov     ecx, PATH_SIZE
        call    copy_string
        call    length
        pop     esi

        ; The root of everything is the one directory that ends with a slash.
        cmp     ecx, 1
        jbe     .parts
        add     edi, ecx
        cmp     byte ptr [esi], '\\'
        jne     .parts

        ; Keep the volume: up to the second slash.
        mov     edi, path
.volume:
        inc     edi
        cmp     byte ptr [edi], 0
        je      .parts
        cmp     byte ptr [edi], '/'
        jne     .volume

.parts:
        ; EDI is after the last component kept; a component is `/name`.
        call    .is_separator
        jnz     .component
        cmp     byte ptr [esi], 0
        je      .done
        inc     esi
        jmp     .parts
.component:
        cmp     byte ptr [esi], '.'
        jne     .name
        lea     ebx, [esi + 1]
        call    .ends
        jz      .here
        cmp     byte ptr [ebx], '.'
        jne     .name
        inc     ebx
        call    .ends
        jnz     .name

        ; `..`: drop the last component.
.drop:
        cmp     edi, path
        jbe     .here
        dec     edi
        cmp     byte ptr [edi], '/'
        jne     .drop
.here:
        mov     esi, ebx
        jmp     .parts

.name:
        mov     byte ptr [edi], '/'
        inc     edi
.byte:
        cmp     edi, path + PATH_SIZE - 2
        jae     .long
        movsb
        call    .is_separator
        jnz     .byte
        jmp     .parts

.done:
        cmp     edi, path
        jne     .end
        mov     byte ptr [edi], '/'
        inc     edi
.end:
        mov     byte ptr [edi], 0
        mov     ecx, edi
        sub     ecx, path
        clc
        jmp     .return
.long:
        mov     byte ptr [path], 0
        stc
.return:
        pop     edi
        pop     esi
        pop     edx
        pop     ebx
        pop     eax
        ret

; .is_separator: ZF=1 if [esi] ends a component.
.is_separator:
        cmp     byte ptr [esi], '/'
        je      .yes
        cmp     byte ptr [esi], '\\'
        je      .yes
        cmp     byte ptr [esi], 0
.yes:
        ret

; .ends: ZF=1 if [ebx] ends a component.
.ends:
        cmp     byte ptr [ebx], '/'
        je      .yes
        cmp     byte ptr [ebx], '\\'
        je      .yes
        cmp     byte ptr [ebx], 0
        ret

        .bss
path:
        .space  PATH_SIZE
directory:
        .space  PATH_SIZE
        .text
