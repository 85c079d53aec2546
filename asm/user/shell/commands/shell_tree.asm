; tree.

; command_tree: `tree [PATH]`.
;   out:       eax  status
command_tree:
        mov     esi, here
        cmp     dword ptr [word_count], 2
        jb      .given
        mov     esi, [words + 4]
.given:
        mov     [named], esi
        call    resolve_path
        mov     eax, ErrorCode.NAME_TOO_LONG
        jc      .failed
        mov     dword ptr [tree_directories], 0
        mov     dword ptr [tree_files], 0
        mov     dword ptr [walk_entry], tree_entry
        mov     dword ptr [walk_end], newline
        mov     dword ptr [walk_error], put_walk_error
        mov     byte ptr [tree_headed], 0
        call    walk
        jc      .failed
        push    eax
        call    head_tree
        call    newline
        mov     eax, [tree_directories]
        mov     esi, directory_one
        mov     edi, directory_many
        call    put_counted
        mov     esi, tree_comma
        call    put_string
        mov     eax, [tree_files]
        mov     esi, file_one
        mov     edi, file_many
        call    put_counted
        call    newline
        pop     eax
        ret
.failed:
        mov     esi, [named]
        jmp     report

; head_tree: show the path of the tree, once, after it is known that there is such a directory.
;   clobbers:  esi, flags
head_tree:
        cmp     byte ptr [tree_headed], 0
        jne     .done
        mov     byte ptr [tree_headed], 1
        mov     esi, path
        call    put_line
.done:
        ret

; tree_entry: show an entry at the end of the branches that lead to it.
;   in:        edi  DirectoryEntry, ebx  WalkLevel
;   clobbers:  eax, ecx, edx, esi, flags
tree_entry:
        call    head_tree
        mov     edx, walk_levels
.level:
        cmp     edx, ebx
        jae     .branch
        mov     esi, tree_line
        call    .more
        jb      .above
        mov     esi, tree_blank
.above:
        call    put_string
        add     edx, sizeof(WalkLevel)
        jmp     .level
.branch:
        mov     esi, tree_branch
        call    .more
        jb      .name
        mov     esi, tree_corner
.name:
        call    put_string
        call    put_name
        test    dword ptr [edi + DirectoryEntry.attributes], FileAttributes.SYMLINK
        jnz     .link
        test    dword ptr [edi + DirectoryEntry.attributes], FileAttributes.DIRECTORY
        jnz     .directory
        inc     dword ptr [tree_files]
        ret
.directory:
        inc     dword ptr [tree_directories]
        mov     al, '/'
        jmp     put_character
.link:
        inc     dword ptr [tree_files]
        mov     al, '@'
        jmp     put_character

; .more: CF=1 if the level at EDX has entries after the one that is visited.
.more:
        mov     eax, [edx + WalkLevel.index]
        cmp     eax, [edx + WalkLevel.count]
        ret

; put_counted: append a number and what it counts.
;   in:        eax  number; esi, edi  the word for one, and for any other number
;   clobbers:  esi, flags
put_counted:
        call    put_number
        call    put_space
        cmp     eax, 1
        je      put_string
        mov     esi, edi
        jmp     put_string

        .rodata
tree_line:
        .asciz  "|   "
tree_blank:
        .asciz  "    "
tree_branch:
        .asciz  "|-- "
tree_corner:
        .asciz  "`-- "
tree_comma:
        .asciz  ", "
directory_one:
        .asciz  "directory"
directory_many:
        .asciz  "directories"
file_one:
        .asciz  "file"
file_many:
        .asciz  "files"
        .bss
        .align  4
tree_directories:
        .space  4
tree_files:
        .space  4
tree_headed:
        .space  1
        .text
