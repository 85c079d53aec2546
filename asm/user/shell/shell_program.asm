; Programs: by path, from the current directory, or from /rom.

; run_program: start the program that the first word names, and wait for it.
;   out:       eax  its exit code
;   clobbers:  everything
run_program:
        call    expand_words
        jc      .refused
        call    join_words
        jc      .refused
        mov     esi, [words]
        cmp     byte ptr [esi], 0
        je      .unknown
        call    resolve_path
        jc      .unknown
        call    try_program
        jnc     .started
        mov     [program_error], eax

        ; A name without a slash is looked for in /rom, too, even if the current volume is gone.
        mov     esi, [words]
.slash:
        cmp     byte ptr [esi], '/'
        je      .named
        cmp     byte ptr [esi], '\\'
        je      .named
        inc     esi
        cmp     byte ptr [esi - 1], 0
        jne     .slash
        mov     edi, path
        mov     esi, rom_directory
        mov     ecx, PATH_SIZE
        call    copy_string
        mov     esi, [words]
        mov     edi, path + ROM_DIRECTORY_SIZE
        mov     ecx, PATH_SIZE - ROM_DIRECTORY_SIZE
        call    copy_string
        mov     esi, path
        call    length
        call    try_program
        jnc     .started
.named:
        cmp     eax, ErrorCode.NOT_FOUND
        jne     .failed

        ; A file of the current directory that is not a program has its own message.
        mov     eax, [program_error]
        cmp     eax, ErrorCode.NOT_EXECUTABLE
        je      .failed
        cmp     eax, ErrorCode.IS_DIRECTORY
        je      .failed
.unknown:
        mov     esi, [words]
        call    report_unknown
        mov     eax, STATUS_NOT_FOUND
        ret

.failed:
        cmp     eax, ErrorCode.INTERRUPTED
        je      report_break
        mov     esi, [words]
        call    put_string
        jmp     put_error

        ; A break that came while the program was being loaded found nothing to end.
.started:
        mov     ebx, eax
        call    ask_break
        jz      .wait
        SYSTEM  KILL_PROCESS
.wait:
        SYSTEM  WAIT_PROCESS
        jnc     .ended
        mov     eax, STATUS_FAILED
.ended:
.refused:
        ret

; try_program: start the program at `path`.
;   in:        ecx  length of the path
;   out:       CF=0  eax  process        CF=1  eax  ErrorCode
;   clobbers:  ebx, edx, esi, edi, flags
try_program:
        call    flush
        mov     esi, path
        mov     edi, arguments
        SYSTEM  START_PROCESS
        ret

; join_words: make the command line of a program, the words after the first with blanks between them.
;   out:       CF=1  eax  STATUS_FAILED: it is too long, which has been reported
;   clobbers:  eax, ebx, ecx, esi, edi, flags
join_words:
        mov     edi, arguments
        mov     ebx, 1
.word:
        cmp     ebx, [word_count]
        jae     .done
        cmp     ebx, 1
        je      .copy
        mov     al, ' '
        stosb
.copy:
        mov     esi, [words + ebx * 4]
.byte:
        lodsb
        test    al, al
        jz      .next
        cmp     edi, arguments + ARGUMENTS_LIMIT
        jae     .long
        stosb
        jmp     .byte
.next:
        inc     ebx
        jmp     .word
.done:
        mov     byte ptr [edi], 0
        clc
        ret
.long:
        mov     esi, [words]
        call    put_string
        mov     esi, arguments_too_long
        call    put_line
        mov     eax, STATUS_FAILED
        stc
        ret

ARGUMENTS_LIMIT = 4095
ROM_DIRECTORY_SIZE = 5

        .rodata
rom_directory:
        .asciz  "/rom/"
arguments_too_long:
        .asciz  ": too many arguments; at most 4095 bytes in all"
        .bss
        .align  4
program_error:
        .space  4
arguments:
        .space  ARGUMENTS_LIMIT + 2
        .text
