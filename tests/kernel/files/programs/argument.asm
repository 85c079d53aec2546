; For programs whose argument is a path, or ends with one: opening the file, and ending with an error.

; open_argument: open the file whose path begins at esi and ends with the argument; ends the program if it cannot be.
;   in:        ebx  File; esi  path
;   clobbers:  eax, ecx, flags
open_argument:
        xor     ecx, ecx
.count:
        cmp     byte ptr [esi + ecx], 0
        je      .open
        inc     ecx
        jmp     .count
.open:
        call    file_open
        jc      failed
        ret

; failed: end with exit code 100 + ErrorCode.
;   in:        eax  ErrorCode
failed: lea     ebx, [eax + 100]
        SYSTEM  EXIT

        .include "file.asm"
