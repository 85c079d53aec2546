; The shell: reads commands from the console or from its arguments, and carries them out.
;
; Arguments: `-i [COLUMNS]` interactive (prompt, editing, echo) on a terminal of that width, `-s` or none script on the
; console (none of them), `-c TEXT` commands in the arguments.  It ends with the status of the last command.

        .include "../../include/system.inc"

STATUS_FAILED = 1
STATUS_USAGE = 2
STATUS_NOT_FOUND = 127

start:
        call    first_volume
        mov     esi, USER_ARGUMENTS
        mov     eax, [esi]
        test    al, al
        jz      .script
        and     eax, 0xffffff
        cmp     eax, '-' | 's' << 8
        je      .script
        cmp     eax, '-' | 'c' << 8 | ' ' << 16
        je      .arguments
        cmp     eax, '-' | 'i' << 8
        je      .interactive
        cmp     eax, '-' | 'i' << 8 | ' ' << 16
        jne     .usage
        add     esi, 3
        call    parse_number
        jc      .usage
        mov     [columns], eax
.interactive:
        mov     dword ptr [interactive], 1
        call    begin_history
        mov     esi, welcome
        call    put_line

.script:
        cmp     dword ptr [interactive], 0
        je      .read
        call    prompt
.read:
        call    read_line
        jc      .end
        mov     esi, line
        call    run_line
        jmp     .script
.end:
        ; End of input is `exit`.
        cmp     dword ptr [interactive], 0
        je      .quit
        call    newline
        jmp     .quit

.usage:
        mov     esi, shell_usage
        call    put_line
        mov     ebx, STATUS_USAGE
        jmp     leave_shell

.arguments:
        add     esi, 3
        call    run_line
.quit:
        mov     ebx, [status]
        jmp     leave_shell

; leave_shell: end with a status.
;   in:        ebx  exit code
leave_shell:
        .frame  none
        call    flush
        SYSTEM  EXIT

; prompt: show the current directory.
;   clobbers:  esi, flags
prompt:
        pushad
        mov     esi, directory
        call    length
        call    put_shown
        popad
        mov     esi, prompt_end
        jmp     put_string

; first_volume: start in the first disk volume, in /rom if there is none.
;   clobbers:  eax, ebx, ecx, edx, esi, edi, flags
first_volume:
        mov     ebx, VOLUME_UNASKED
.next:
        mov     edi, volume
        SYSTEM  VOLUME_INFORMATION
        jc      .none
        mov     esi, volume + VolumeInformation.name
        mov     edi, rom_name
        call    same_word
        jne     .found
        inc     ebx
        jmp     .next
.none:
        mov     esi, rom_name
.found:
        mov     byte ptr [directory], '/'
        mov     edi, directory + 1
        mov     ecx, PATH_SIZE - 1
        call    copy_string

; set_directory: have programs that are started begin where the shell is.
;   in:        directory
;   clobbers:  eax, ecx, esi, flags
set_directory:
        mov     esi, directory
        call    length
        SYSTEM  SET_DIRECTORY
        ret

        .rodata
welcome:
        .asciz  "callgate shell: type help for the commands"
shell_usage:
        .asciz  "usage: shell [-i [COLUMNS] | -s | -c COMMANDS]"
prompt_end:
        .asciz  "> "
rom_name:
        .asciz  "rom"
        .bss
        .align 4
status:
        .space  4
volume:
        .space  sizeof(VolumeInformation)
        .text

        .include "parse/shell_line.asm"
        .include "parse/shell_parse.asm"
        .include "shell_run.asm"
        .include "shell_table.asm"
        .include "shell_suggest.asm"
        .include "commands/shell_commands.asm"
        .include "commands/shell_files.asm"
        .include "commands/shell_crc.asm"
        .include "commands/shell_hexdump.asm"
        .include "commands/shell_hexdump_lines.asm"
        .include "commands/shell_poke.asm"
        .include "parse/shell_walk.asm"
        .include "commands/shell_tree.asm"
        .include "commands/shell_find.asm"
        .include "parse/shell_names.asm"
        .include "parse/shell_expand.asm"
        .include "parse/shell_listing.asm"
        .include "commands/shell_list.asm"
        .include "parse/shell_links.asm"
        .include "commands/shell_dir.asm"
        .include "commands/shell_volumes.asm"
        .include "commands/shell_ps.asm"
        .include "commands/shell_time.asm"
        .include "commands/shell_ipc.asm"
        .include "shell_program.asm"
        .include "shell_break.asm"
        .include "../library/output.asm"
        .include "../library/text.asm"
        .include "../library/text_width.asm"
        .include "../library/character_widths.asm"
        .include "../library/paths.asm"
        .include "../library/pattern.asm"
        .include "../library/directory.asm"
        .include "../library/sort_entries.asm"
        .include "../library/dates.asm"
        .include "../library/errors.asm"
        .include "line/line.asm"
        .include "line/line_keys.asm"
        .include "line/line_cursor.asm"
        .include "line/line_history.asm"
        .include "line/line_screen.asm"
        .include "line/line_parameters.asm"
        .include "line/line_search.asm"
        .include "line/line_word.asm"
        .include "line/line_quote.asm"
        .include "line/line_complete.asm"
        .include "line/complete.asm"
        .include "line/complete_names.asm"
