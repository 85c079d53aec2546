; Ctrl-C while a command runs.  The console sends a break; the kernel ends the program that runs in the
; foreground; the shell's own commands ask from time to time.

STATUS_INTERRUPTED = 128 + 2

; ask_break: ask whether there has been a break since the line began.  Only on a terminal: a script is never sent one.
;   out:       ZF=0 if there has been one
;   clobbers:  eax, flags
ask_break:
        cmp     dword ptr [interactive], 0
        je      .done
        SYSTEM  TAKE_BREAK
        or      [broken], eax
        cmp     dword ptr [broken], 0
.done:
        ret

; show_break: answer a break: the rest of the line is not run.
;   out:       status, broken
;   clobbers:  esi, flags
show_break:
        mov     dword ptr [broken], 0
        mov     dword ptr [status], STATUS_INTERRUPTED
        mov     esi, caret_c
        call    put_line
        jmp     flush

        .rodata
caret_c:
        .asciz  "^C"
        .bss
        .align  4
broken:
        .space  4
        .text
