; The table of commands: what each is called, takes and does.

; An entry.  `least` and `most` are counts of words, the command's own included; with fewer or more the usage is shown.
        .struct Command
        .field  name, 4
        .field  handler, 4
        .field  arguments, 4
        .field  text, 4
        .field  least, 1
        .field  most, 1
        .field  kind, 1
        .field  reserved, 1
        .ends

; What happens to unquoted wildcards in the words: taken as typed; replaced by names that match; left to the command.
KIND_TEXT = 0
KIND_FILES = 1
KIND_PATTERNS = 2
MANY = 255

; COMMAND: an entry, with its strings.
        .macro COMMAND name, least, most, kind, arguments, text
        .rodata
usage_\name:
        .asciz  \arguments
text_\name:
        .asciz  \text
word_\name:
        .asciz  "\name"
        .section .commands, "r"
        .long   word_\name, command_\name, usage_\name, text_\name
        .byte   \least, \most, \kind, 0
        .endm

        .section .commands, "r"
        .align  4
commands:
        COMMAND help, 1, 2, KIND_TEXT, "[COMMAND]", "this list, or one line of it"
        COMMAND dir, 1, MANY, KIND_PATTERNS, "[PATH...]", "list a directory with sizes and dates"
        COMMAND ls, 1, MANY, KIND_PATTERNS, "[-l] [PATH...]", "list a directory"
        COMMAND cd, 1, 2, KIND_FILES, "[PATH]", "change, or show, the current directory"
        COMMAND pwd, 1, 1, KIND_TEXT, "", "show the current directory"
        COMMAND cat, 2, MANY, KIND_FILES, "FILE...", "write files to the console"
        COMMAND type, 2, MANY, KIND_FILES, "FILE...", "the same as cat"
        COMMAND crc32, 2, MANY, KIND_FILES, "FILE...", "CRC-32 of files, as zlib computes it"
        COMMAND hexdump, 2, 4, KIND_FILES, "FILE [OFFSET [LEN]]", "bytes in hexadecimal, as hexdump -C"
        COMMAND poke, 4, MANY, KIND_FILES, "FILE OFFSET BYTE...", "change bytes of a file (boot --scratch)"
        COMMAND tree, 1, 2, KIND_FILES, "[PATH]", "everything below a directory"
        COMMAND find, 2, 3, KIND_PATTERNS, "NAME [PATH]", "paths below a directory whose last part matches"
        COMMAND df, 1, 1, KIND_TEXT, "", "volumes and their free space"
        COMMAND vol, 1, 2, KIND_TEXT, "[VOLUME]", "label and serial number of volumes"
        COMMAND ps, 1, 1, KIND_TEXT, "", "threads"
        COMMAND ipc, 1, 2, KIND_TEXT, "[VOLUME]", "slots, masks, ring and counters of servers"
        COMMAND echo, 1, MANY, KIND_TEXT, "[-n] [WORD...]", "write words; $? is the last status"
        COMMAND time, 2, MANY, KIND_PATTERNS, "COMMAND", "run a command and show its ledger"
        COMMAND exit, 1, 2, KIND_TEXT, "[N]", "end the shell with status N"
        COMMAND true, 1, MANY, KIND_TEXT, "", "do nothing, with success"
        COMMAND false, 1, MANY, KIND_TEXT, "", "do nothing, with failure"
        ; A zero ends the table.
        .section .commands, "r"
        .long   0
        .text

; find_command: look a word up in the table, letters in any case.
;   in:        esi  word
;   out:       ZF=1  ebx  the entry        ZF=0  there is none
;   clobbers:  edi, flags
find_command:
        mov     ebx, commands
.next:
        mov     edi, [ebx + Command.name]
        test    edi, edi
        jz      .none
        call    same_word
        je      .done
        add     ebx, sizeof(Command)
        jmp     .next
.none:
        or      edi, 1
.done:
        ret
