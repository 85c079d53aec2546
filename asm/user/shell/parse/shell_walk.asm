; Walking a tree: every entry below a directory, a directory's own entries after it. For tree and find.

WALK_LEVELS = 32                ; nested directories
WALK_LOOP = -1                  ; beside ErrorCode: the directory contains itself
WALK_DEEP = -2                  ; … there are WALK_LEVELS above it

        .struct WalkLevel
        .field  entries, 4
        .field  count, 4
        .field  index, 4                ; of the entry after the one that is visited
        .field  lock, 4
        .field  length, 4               ; of the directory's path
        .field  identifier, 8           ; of the directory, 0 if it has none
        .ends

; walk: visit everything below a directory.
;   in:        path, ecx   the directory, absolute, and its length
;              walk_entry  called for each entry: edi  DirectoryEntry, ebx  WalkLevel, path  its directory
;              walk_end    called after it if it is not a directory, or one that can be read
;              walk_error  called instead if it cannot: eax  ErrorCode or WALK_…, edi  DirectoryEntry
;              The three may clobber every register.
;   out:       CF=0  eax  0, or STATUS_FAILED if a directory below could not be read
;              CF=1  eax  ErrorCode: the directory itself could not
;   clobbers:  everything
walk:
        cmp     ecx, 1
        sete    [walk_volumes]
        mov     dword ptr [walk_level], walk_levels - sizeof(WalkLevel)
        mov     dword ptr [walk_status], 0
        mov     dword ptr [walk_identifier], 0
        mov     dword ptr [walk_identifier + 4], 0
        push    ecx
        call    volume_case
        pop     ecx
        call    push_level
        jc      .done
.next:
        call    ask_break
        jnz     .broken
        mov     ebx, [walk_level]
        mov     eax, [ebx + WalkLevel.index]
        cmp     eax, [ebx + WalkLevel.count]
        jae     .leave
        inc     dword ptr [ebx + WalkLevel.index]
        mov     edi, [ebx + WalkLevel.entries]
        mov     edi, [edi + eax * 4]
        push    edi
        call    dword ptr [walk_entry]
        pop     edi
        mov     eax, [edi + DirectoryEntry.attributes]
        and     eax, FileAttributes.DIRECTORY | FileAttributes.SYMLINK
        cmp     eax, FileAttributes.DIRECTORY
        jne     .end
        push    edi
        call    enter_directory
        pop     edi
        jc      .failed
.end:
        call    dword ptr [walk_end]
        jmp     .next
.failed:
        mov     dword ptr [walk_status], STATUS_FAILED
        call    dword ptr [walk_error]
        jmp     .next
.broken:
        mov     dword ptr [walk_status], STATUS_FAILED
.up:
        call    pop_level
        jae     .up
        jmp     .over
.leave:
        call    pop_level
        jae     .next
.over:
        mov     eax, [walk_status]
        clc
.done:
        ret

; enter_directory: continue in a directory of the present level.
;   in:        edi  DirectoryEntry
;   out:       CF=0                     CF=1  eax  ErrorCode, WALK_LOOP or WALK_DEEP; path is as it was
;   clobbers:  everything
enter_directory:
        mov     eax, WALK_DEEP
        mov     ebx, [walk_level]
        cmp     ebx, walk_levels + (WALK_LEVELS - 1) * sizeof(WalkLevel)
        jae     .failed
        call    note_identifier
        mov     eax, WALK_LOOP
        jc      .failed

        ; PATH/NAME, but /NAME at the root.
        mov     edx, [ebx + WalkLevel.length]
        movzx   ecx, word ptr [edi + DirectoryEntry.name_length]
        lea     esi, [edi + DIRECTORY_NAME_OFFSET]
        mov     eax, ErrorCode.NAME_TOO_LONG
        lea     edi, [edx + ecx + 2]
        cmp     edi, PATH_SIZE
        ja      .failed
        cmp     edx, 1
        je      .name
        mov     byte ptr [path + edx], '/'
        inc     edx
.name:
        lea     edi, [path + edx]
        add     edx, ecx
        rep movsb
        mov     byte ptr [edi], 0
        mov     ecx, edx
        call    push_level
        jnc     .done
        mov     ebx, [walk_level]
        mov     edx, [ebx + WalkLevel.length]
        mov     byte ptr [path + edx], 0
.failed:
        stc
.done:
        ret

; note_identifier: is a directory one of those that it lies in?  At the root of everything entries are volumes,
; whose numbers have nothing to do with those of their files.
;   in:        edi  DirectoryEntry, ebx  WalkLevel
;   out:       CF=1  it is              CF=0  walk_identifier  to compare others with
;   clobbers:  eax, ecx, edx, flags
note_identifier:
        xor     eax, eax
        xor     ecx, ecx
        cmp     byte ptr [walk_volumes], 0
        je      .known
        cmp     ebx, walk_levels
        je      .keep
.known:
        mov     eax, [edi + DirectoryEntry.identifier]
        mov     ecx, [edi + DirectoryEntry.identifier + 4]
        mov     edx, eax
        or      edx, ecx
        jz      .keep
        mov     edx, walk_levels
.level:
        cmp     eax, [edx + WalkLevel.identifier]
        jne     .other
        cmp     ecx, [edx + WalkLevel.identifier + 4]
        je      .same
.other:
        add     edx, sizeof(WalkLevel)
        cmp     edx, ebx
        jbe     .level
.keep:
        mov     [walk_identifier], eax
        mov     [walk_identifier + 4], ecx
        clc
        ret
.same:
        stc
        ret

; push_level: read a directory as a level below the present one.
;   in:        path, ecx  the directory and its length; walk_identifier
;   out:       CF=0                     CF=1  eax  ErrorCode
;   clobbers:  everything
push_level:
        push    ecx
        call    read_directory
        pop     ecx
        jc      .done
        mov     ebx, [walk_level]
        add     ebx, sizeof(WalkLevel)
        mov     [walk_level], ebx
        mov     [ebx + WalkLevel.length], ecx
        mov     dword ptr [ebx + WalkLevel.index], 0
        mov     eax, [entries]
        mov     [ebx + WalkLevel.entries], eax
        mov     eax, [entry_count]
        mov     [ebx + WalkLevel.count], eax
        mov     eax, [directory_lock]
        mov     [ebx + WalkLevel.lock], eax
        mov     eax, [walk_identifier]
        mov     [ebx + WalkLevel.identifier], eax
        mov     eax, [walk_identifier + 4]
        mov     [ebx + WalkLevel.identifier + 4], eax

        ; The root of a volume: from here on names are compared as this volume compares them.
        cmp     byte ptr [walk_volumes], 0
        je      .pushed
        cmp     ebx, walk_levels + sizeof(WalkLevel)
        jne     .pushed
        call    volume_case
.pushed:
        clc
.done:
        ret

; pop_level: give the present level's directory back.
;   out:       CF=0  path, walk_level  the level above        CF=1  there is none
;   clobbers:  eax, ebx, edx, flags
pop_level:
        mov     ebx, [walk_level]
        mov     eax, [ebx + WalkLevel.entries]
        mov     [entries], eax
        mov     eax, [ebx + WalkLevel.lock]
        mov     [directory_lock], eax
        call    free_directory
        mov     ebx, [walk_level]
        sub     ebx, sizeof(WalkLevel)
        mov     [walk_level], ebx
        cmp     ebx, walk_levels
        jb      .done
        mov     eax, [ebx + WalkLevel.length]
        mov     byte ptr [path + eax], 0
        clc
.done:
        ret

; put_walk_error: say why a directory could not be entered, after its name.
;   in:        eax  ErrorCode or WALK_…
;   clobbers:  eax, esi, flags
put_walk_error:
        mov     esi, walk_loop
        cmp     eax, WALK_LOOP
        je      put_line
        mov     esi, walk_deep
        cmp     eax, WALK_DEEP
        je      put_line
        cmp     eax, ErrorCode.INTERRUPTED
        jne     put_error
        call    newline
        jmp     report_break

; put_entry_path: append the absolute path of an entry.
;   in:        edi  DirectoryEntry, path  its directory
;   clobbers:  eax, ecx, esi, flags
put_entry_path:
        mov     esi, path
        call    put_string
        cmp     byte ptr [path + 1], 0
        je      put_name
        mov     al, '/'
        call    put_character
        jmp     put_name

        .rodata
walk_loop:
        .asciz  ": is a directory that contains it"
walk_deep:
        .asciz  ": more than 32 directories deep"
        .bss
        .align  4
walk_entry:
        .space  4
walk_end:
        .space  4
walk_error:
        .space  4
walk_level:
        .space  4
walk_status:
        .space  4
walk_identifier:
        .space  8
walk_levels:
        .space  WALK_LEVELS * sizeof(WalkLevel)
walk_volumes:
        .space  1
        .text
