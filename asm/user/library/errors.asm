; Error codes in words.

; report: say what went wrong with something.
;   in:        eax  ErrorCode, esi  what it was about; words[0] is the command
;   out:       eax  STATUS_FAILED
;   clobbers:  esi, flags
report:
        cmp     eax, ErrorCode.INTERRUPTED
        je      report_break
        push    esi
        mov     esi, [words]
        call    put_string
        mov     esi, colon
        call    put_string
        pop     esi
        call    put_string

; put_error: say what is wrong with what has just been written.
;   in:        eax  ErrorCode
;   out:       eax  STATUS_FAILED
;   clobbers:  esi, flags
put_error:
        mov     esi, colon
        call    put_string
        cmp     eax, ERROR_TEXTS
        jb      .known
        mov     esi, unknown_error
        call    put_string
        call    put_number
        call    newline
        jmp     .done
.known:
        mov     esi, [error_texts + eax * 4]
        call    put_line
.done:
        mov     eax, STATUS_FAILED
        ret

; report_break: a command has been interrupted: the break itself is shown when the command has ended.
;   out:       eax  STATUS_FAILED
;   clobbers:  flags
report_break:
        call    ask_break
        mov     eax, STATUS_FAILED
        ret

        .rodata
colon:
        .asciz  ": "
unknown_error:
        .asciz  "error "
        .align 4
; Indexed by ErrorCode; a test compares it with kernel/abi/errors.py.
error_texts:
        .long   error_0
        .long   error_1
        .long   error_2
        .long   error_3
        .long   error_4
        .long   error_5
        .long   error_6
        .long   error_7
        .long   error_8
        .long   error_9
        .long   error_10
        .long   error_11
        .long   error_12
        .long   error_13
        .long   error_14
        .long   error_15
        .long   error_16
        .long   error_17
        .long   error_18
        .long   error_19
        .long   error_20
        .long   error_21
        .long   error_22
        .long   error_23
        .long   error_24
        .long   error_25
ERROR_TEXTS = ($ - error_texts) / 4
error_0:
        .asciz  "ok"
error_1:
        .asciz  "no such call"
error_2:
        .asciz  "bad argument"
error_3:
        .asciz  "bad address"
error_4:
        .asciz  "bad handle"
error_5:
        .asciz  "no such file or directory"
error_6:
        .asciz  "not a directory"
error_7:
        .asciz  "is a directory"
error_8:
        .asciz  "name too long"
error_9:
        .asciz  "out of memory"
error_10:
        .asciz  "a table is full, or a limit is reached"
error_11:
        .asciz  "disk error"
error_12:
        .asciz  "the file system is damaged"
error_13:
        .asciz  "the file-system server died"
error_14:
        .asciz  "the disk was removed"
error_15:
        .asciz  "killed"
error_16:
        .asciz  "the file or its volume is read-only"
error_17:
        .asciz  "not supported"
error_18:
        .asciz  "the file-system server broke the protocol"
error_19:
        .asciz  "end of input"
error_20:
        .asciz  "not an executable of this system"
error_21:
        .asciz  "no such process"
error_22:
        .asciz  "interrupted"
error_23:
        .asciz  "files can be written to only after callgate boot --scratch"
error_24:
        .asciz  "this page of the file is a copy, which cannot be written to"
error_25:
        .asciz  "the file was not opened for writing"
        .text
