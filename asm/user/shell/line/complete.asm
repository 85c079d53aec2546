; Completion: the names that the word at the cursor may become.

; visit_names: go through the names that begin like the word in `typed`.
;   in:        visitor  a routine: esi  name, ecx  its bytes, eax  non-zero for a directory; may clobber
;                       eax, ecx, edx, esi, edi
;   out:       part  the part of the word that the names complete
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags; names that cannot be read are left out
visit_names:
        mov     esi, typed
        call    word_directory
        jc      .done
        mov     [part], edi
        cmp     dword ptr [wants_command], 0
        je      .paths
        cmp     edi, typed
        jne     .paths

        ; Commands, then the programs of /rom.
        mov     ebx, commands
.command:
        mov     esi, [ebx + Command.name]
        test    esi, esi
        jz      .programs
        mov     byte ptr [match_case], 0
        call    length
        xor     eax, eax
        call    visit_name
        add     ebx, sizeof(Command)
        jmp     .command
.programs:
        mov     esi, rom_directory
        call    resolve_path
.paths:
        push    ecx
        call    volume_case
        pop     ecx
        push    ebp
        call    read_directory
        pop     ebp
        jc      .done
        xor     ebx, ebx
.entry:
        cmp     ebx, [entry_count]
        jae     .all
        mov     eax, [entries]
        mov     esi, [eax + ebx * 4]
        movzx   ecx, word ptr [esi + DirectoryEntry.name_length]
        mov     eax, [esi + DirectoryEntry.attributes]
        and     eax, FileAttributes.DIRECTORY
        add     esi, DIRECTORY_NAME_OFFSET
        call    visit_name
        inc     ebx
        jmp     .entry
.all:
        call    free_directory
.done:
        ret

; visit_name: hand a name on if it begins with `part`, unless it has control characters: they could not be typed, and
; the terminal would obey them.
;   in:        esi  name, ecx  its bytes, eax  non-zero for a directory; visitor, match_case
;   clobbers:  eax, ecx, edx, esi, edi, flags
visit_name:
        push    eax
        xor     edx, edx
.printable:
        cmp     edx, ecx
        jae     .compare
        cmp     byte ptr [esi + edx], ' '
        jb      .done
        inc     edx
        jmp     .printable
.compare:
        mov     edi, [part]
        xor     edx, edx
.next:
        mov     ah, [edi + edx]
        test    ah, ah
        jz      .begins
        cmp     edx, ecx
        jae     .done
        mov     al, [esi + edx]
        inc     edx
        call    same_in_volume
        je      .next
.done:
        pop     eax
        ret
.begins:
        pop     eax
        jmp     dword ptr [visitor]

; same_in_volume: compare two bytes of names as the volume does.
;   in:        al, ah, match_case
;   out:       ZF=1 if they are the same
;   clobbers:  eax, flags
same_in_volume:
        cmp     byte ptr [match_case], 0
        je      same_letter
        cmp     al, ah
        ret

        .bss
        .align  4
part:
        .space  4
visitor:
        .space  4
        .text
