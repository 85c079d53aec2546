; The control characters of the line editor.

        .rodata
        .align 4
; Indexed by the control character.
control_keys:
        .long   read_line.key, read_line.home, read_line.left, read_line.abandon
        .long   read_line.end_or_delete, read_line.last, read_line.right, read_line.key
        .long   read_line.backspace, read_line.key, read_line.key, read_line.kill_end
        .long   read_line.clear, read_line.key, read_line.newer, read_line.key
        .long   read_line.older, read_line.key, read_line.search, read_line.key
        .long   read_line.key, read_line.kill_line, read_line.key, read_line.word
CONTROL_KEYS = ($ - control_keys) / 4
        .text
