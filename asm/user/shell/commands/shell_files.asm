; cd, pwd, cat.

; command_pwd: `pwd`.
command_pwd:
        mov     esi, directory
        call    put_line
        xor     eax, eax
        ret

; command_cd: `cd [PATH]`; the directory must be one that can be locked.
;   out:       eax  status
command_cd:
        cmp     dword ptr [word_count], 2
        jb      command_pwd
        mov     esi, [words + 4]
        call    resolve_path
        jc      .long
        mov     esi, path
        SYSTEM  LOCK_DIRECTORY
        jc      .failed
        SYSTEM  UNLOCK_DIRECTORY
        mov     esi, path
        mov     edi, directory
        mov     ecx, PATH_SIZE
        call    copy_string
        call    set_directory
        xor     eax, eax
        ret
.long:
        mov     eax, ErrorCode.NAME_TOO_LONG
.failed:
        mov     esi, [words + 4]
        jmp     report

; command_cat: `cat FILE…`, `type FILE…`.
;   out:       eax  status
command_cat:
command_type:
        call    flush
        mov     ebp, 1
        xor     edi, edi
.next:
        mov     esi, [words + ebp * 4]
        push    edi
        push    ebp
        call    show_file
        pop     ebp
        pop     edi
        jnc     .shown
        mov     esi, [words + ebp * 4]
        call    report
        call    flush
        mov     edi, STATUS_FAILED
.shown:
        cmp     dword ptr [broken], 0
        jne     .end
        inc     ebp
        cmp     ebp, [word_count]
        jb      .next
.end:
        mov     eax, edi
        ret

; show_file: write a file to the console, straight from where the kernel has mapped it.
;   in:        esi  path as typed
;   out:       CF=1, eax  ErrorCode on failure
;   clobbers:  eax, ebx, ecx, edx, esi, edi, ebp, flags
show_file:
        call    resolve_path
        mov     eax, ErrorCode.NAME_TOO_LONG
        jc      .done
        mov     esi, path
        mov     ebx, shown_file
        call    file_open_from_start
        jc      .done
.piece:
        call    file_peek
        jc      .failed
        jecxz   .end
        mov     esi, eax
        push    ecx
        call    write_piece
        pop     ecx
        jc      .failed
        add     [ebx + File.position], ecx
        adc     dword ptr [ebx + File.position + 4], 0
        cmp     dword ptr [broken], 0
        je      .piece
.end:
        call    file_close
        clc
.done:
        ret
.failed:
        push    eax
        call    file_close
        pop     eax
        stc
        ret

; write_piece: write bytes to the console; on a terminal in small pieces, until there is a break.
;   in:        esi  address, ecx  bytes
;   out:       CF=1, eax  ErrorCode on failure
;   clobbers:  eax, ecx, edi, esi, flags
write_piece:
        cmp     dword ptr [interactive], 0
        jne     .some
        SYSTEM  WRITE
        ret
.some:
        mov     edi, ecx
        cmp     ecx, TERMINAL_PIECE
        jbe     .last
        mov     ecx, TERMINAL_PIECE
.last:
        sub     edi, ecx
        SYSTEM  WRITE
        jc      .done
        add     esi, ecx
        call    ask_break
        jnz     .end
        mov     ecx, edi
        test    ecx, ecx
        jnz     .some
.end:
        clc
.done:
        ret

TERMINAL_PIECE = 4096

        .bss
        .align  4
shown_file:
        .space  sizeof(File)
        .text
