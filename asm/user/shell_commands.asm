; The table of commands, and the ones that need nothing but words.

COMMAND_SIZE = 16

; command_help: `help [COMMAND]`.
;   out:       eax  status
command_help:
        cmp     dword ptr [word_count], 1
        ja      .one
        mov     esi, help_head
        call    put_line
        mov     ebx, commands
.next:
        mov     esi, [ebx]
        test    esi, esi
        jz      .done
        call    put_help
        add     ebx, COMMAND_SIZE
        jmp     .next
.done:
        mov     esi, help_tail
        call    put_line
        xor     eax, eax
        ret
.one:
        mov     ebx, commands
.search:
        mov     edi, [ebx]
        test    edi, edi
        jz      .unknown
        mov     esi, [words + 4]
        call    same_word
        je      .found
        add     ebx, COMMAND_SIZE
        jmp     .search
.found:
        call    put_help
        xor     eax, eax
        ret
.unknown:
        mov     esi, [words + 4]
        call    put_string
        mov     esi, no_command
        call    put_line
        mov     eax, STATUS_FAILED
        ret

; put_help: one line of help.
;   in:        ebx  entry of the table
;   clobbers:  ecx, esi, flags
put_help:
        call    put_space
        call    put_space
        mov     esi, [ebx]
        mov     ecx, 6
        call    put_field
        mov     esi, [ebx + 8]
        mov     ecx, 20
        call    put_field
        mov     esi, [ebx + 12]
        jmp     put_line

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

        .rodata
help_head:
        .asciz  "commands (names in any case, / or \\ in paths):"
help_tail:
        .asciz  "anything else is a program: by path, or from /rom"
no_command:
        .asciz  ": no such command"
no_newline:
        .asciz  "-n"
status_word:
        .asciz  "$?"
exit_usage:
        .asciz  "exit: the status is a number"

        .align 4
; Name, handler, arguments, what it does; a zero ends the table.
commands:
        .long   name_help, command_help, arguments_help, text_help
        .long   name_dir, command_dir, arguments_dir, text_dir
        .long   name_ls, command_ls, arguments_ls, text_ls
        .long   name_cd, command_cd, arguments_cd, text_cd
        .long   name_pwd, command_pwd, arguments_pwd, text_pwd
        .long   name_cat, command_cat, arguments_cat, text_cat
        .long   name_type, command_cat, arguments_type, text_type
        .long   name_df, command_df, arguments_df, text_df
        .long   name_vol, command_vol, arguments_vol, text_vol
        .long   name_ps, command_ps, arguments_ps, text_ps
        .long   name_ipc, command_ipc, arguments_ipc, text_ipc
        .long   name_echo, command_echo, arguments_echo, text_echo
        .long   name_time, command_time, arguments_time, text_time
        .long   name_exit, command_exit, arguments_exit, text_exit
        .long   name_true, command_true, arguments_true, text_true
        .long   name_false, command_false, arguments_false, text_false
        .long   0
name_help:
        .asciz  "help"
arguments_help:
        .asciz  "[COMMAND]"
text_help:
        .asciz  "this list, or one line of it"
name_dir:
        .asciz  "dir"
arguments_dir:
        .asciz  "[PATH]"
text_dir:
        .asciz  "list a directory with sizes and dates"
name_ls:
        .asciz  "ls"
arguments_ls:
        .asciz  "[-l] [PATH]"
text_ls:
        .asciz  "list a directory"
name_cd:
        .asciz  "cd"
arguments_cd:
        .asciz  "[PATH]"
text_cd:
        .asciz  "change, or show, the current directory"
name_pwd:
        .asciz  "pwd"
arguments_pwd:
        .asciz  ""
text_pwd:
        .asciz  "show the current directory"
name_cat:
        .asciz  "cat"
arguments_cat:
        .asciz  "FILE..."
text_cat:
        .asciz  "write files to the console"
name_type:
        .asciz  "type"
arguments_type:
        .asciz  "FILE..."
text_type:
        .asciz  "the same as cat"
name_df:
        .asciz  "df"
arguments_df:
        .asciz  ""
text_df:
        .asciz  "volumes and their free space"
name_vol:
        .asciz  "vol"
arguments_vol:
        .asciz  "[VOLUME]"
text_vol:
        .asciz  "label and serial number of volumes"
name_ps:
        .asciz  "ps"
arguments_ps:
        .asciz  ""
text_ps:
        .asciz  "threads"
name_ipc:
        .asciz  "ipc"
arguments_ipc:
        .asciz  "[VOLUME]"
text_ipc:
        .asciz  "slots, masks, ring and counters of servers"
name_echo:
        .asciz  "echo"
arguments_echo:
        .asciz  "[-n] [WORD...]"
text_echo:
        .asciz  "write words; $? is the last status"
name_time:
        .asciz  "time"
arguments_time:
        .asciz  "COMMAND"
text_time:
        .asciz  "run a command and show its ledger"
name_exit:
        .asciz  "exit"
arguments_exit:
        .asciz  "[N]"
text_exit:
        .asciz  "end the shell with status N"
name_true:
        .asciz  "true"
arguments_true:
        .asciz  ""
text_true:
        .asciz  "do nothing, with success"
name_false:
        .asciz  "false"
arguments_false:
        .asciz  ""
text_false:
        .asciz  "do nothing, with failure"
        .text
