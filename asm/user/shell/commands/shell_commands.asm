; The commands that need only words: help, echo, exit, true, false.

; command_help: `help [COMMAND]`.
;   out:       eax  status
command_help:
        cmp     dword ptr [word_count], 1
        ja      .one
        mov     esi, help_head
        call    put_line
        mov     ebx, commands
.next:
        cmp     dword ptr [ebx + Command.name], 0
        je      .done
        call    put_help
        add     ebx, sizeof(Command)
        jmp     .next
.done:
        mov     esi, help_tail
        call    put_line
        xor     eax, eax
        ret
.one:
        mov     esi, [words + 4]
        call    find_command
        jne     .unknown
        call    put_help
        xor     eax, eax
        ret
.unknown:
        mov     esi, [words + 4]
        call    report_unknown
        mov     eax, STATUS_FAILED
        ret

; put_help: one line of help.
;   in:        ebx  Command
;   clobbers:  ecx, esi, flags
put_help:
        call    put_space
        call    put_space
        mov     esi, [ebx + Command.name]
        mov     ecx, 8
        call    put_field
        mov     esi, [ebx + Command.arguments]
        mov     ecx, 22
        call    put_field
        mov     esi, [ebx + Command.text]
        jmp     put_line

; put_usage: say how a command is used.
;   in:        ebx  Command
;   out:       eax  STATUS_USAGE
;   clobbers:  esi, flags
put_usage:
        mov     esi, usage_word
        call    put_string
        mov     esi, [ebx + Command.name]
        call    put_string
        mov     esi, [ebx + Command.arguments]
        cmp     byte ptr [esi], 0
        je      .end
        call    put_space
.end:
        call    put_line
        mov     eax, STATUS_USAGE
        ret

; command_echo: `echo [-n] WORD…`; `$?` is the last status.
;   out:       eax  status
command_echo:
        mov     ebx, 1
        mov     ebp, 1
        cmp     dword ptr [word_count], 2
        jb      .end
        mov     esi, [words + 4]
        mov     edi, no_newline
        call    same_word
        jne     .word
        inc     ebx
        xor     ebp, ebp
.word:
        cmp     ebx, [word_count]
        jae     .end
        mov     esi, [words + ebx * 4]
        mov     edi, status_word
        call    same_word
        jne     .text
        mov     eax, [status]
        call    put_number
        jmp     .after
.text:
        call    put_string
.after:
        inc     ebx
        cmp     ebx, [word_count]
        jae     .end
        call    put_space
        jmp     .word
.end:
        test    ebp, ebp
        jz      .done
        call    newline
.done:
        xor     eax, eax
        ret

; command_exit: `exit [N]`.
command_exit:
        mov     ebx, [status]
        cmp     dword ptr [word_count], 2
        jb      leave_shell
        mov     esi, [words + 4]
        call    parse_number
        jc      .bad
        mov     ebx, eax
        and     ebx, 0xff
        jmp     leave_shell
.bad:
        mov     esi, exit_usage
        call    put_line
        mov     eax, STATUS_USAGE
        ret

command_true:
        xor     eax, eax
        ret

command_false:
        mov     eax, STATUS_FAILED
        ret

; put_field: append a terminated string as put_shown does, filled with blanks behind it.
;   in:        esi  address, ecx  columns
;   clobbers:  flags
put_field:
        pushad
        mov     ebx, ecx
        call    length
        call    text_columns
        sub     ebx, eax
        call    put_shown
.pad:
        dec     ebx
        js      .done
        call    put_space
        jmp     .pad
.done:
        popad
        ret

        .rodata
help_head:
        .asciz  "commands (names in any case, / or \\ in paths):"
help_tail:
        .ascii  "anything else is a program: by path, or from /rom\n"
        .ascii  "* and ? in the last part of a path stand for names; quotes keep blanks, * and ?\n"
        .asciz  "commands are separated by ; and there are no pipes and no redirection"
usage_word:
        .asciz  "usage: "
no_newline:
        .asciz  "-n"
status_word:
        .asciz  "$?"
exit_usage:
        .asciz  "exit: the status is a number"
        .text
