; The shell's two comparisons, alone: is a word one slip away from another, does a name match a pattern?
        .include "text.asm"
        .include "pattern.asm"
        .include "shell_suggest.asm"

; The names of the shell that shell_suggest.asm needs.
        .struct Command
        .field  name, 4
        .ends
        .rodata
        .align  4
commands:
        .long   name_ls, name_ps, name_help, 0
name_ls:
        .asciz  "ls"
name_ps:
        .asciz  "ps"
name_help:
        .asciz  "help"
        .text
put_string:
put_line:
        ret

TYPED = 0x20000
OTHER = 0x21000

; A pattern of `*`, `?` and letters, as the parser hands it on.
        .data
star_txt:
        .byte   ANY_STRING
        .asciz  ".txt"
dos_all:
        .byte   ANY_STRING, '.', ANY_STRING, 0
two_stars:
        .byte   'a', ANY_STRING, 'b', ANY_STRING, 'c', 0
one_each:
        .byte   ANY_CHARACTER, ANY_CHARACTER, 0
        .text

; near: call near_word with ESI and EDI, so that no case has to set them.
near:
        mov     esi, TYPED
        mov     edi, OTHER
        call    near_word
        ret

;@ case a word is near itself
;@   set     [TYPED] = "dir", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case a word is near itself in other case
;@   set     [TYPED] = "DIR", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words are near if a letter is missing at the front
;@   set     [TYPED] = "ir", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words are near if a letter is missing in the middle
;@   set     [TYPED] = "dr", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words are near if a letter is missing at the end
;@   set     [TYPED] = "di", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words are near if there is one letter too many at the front
;@   set     [TYPED] = "adir", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words are near if there is one letter too many in the middle
;@   set     [TYPED] = "diir", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words are near if there is one letter too many at the end
;@   set     [TYPED] = "dirr", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words are near if a letter is wrong at the front
;@   set     [TYPED] = "fir", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words are near if a letter is wrong in the middle
;@   set     [TYPED] = "der", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words are near if a letter is wrong at the end
;@   set     [TYPED] = "dit", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words are near if two letters are swapped at the front
;@   set     [TYPED] = "idr", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words are near if two letters are swapped at the end
;@   set     [TYPED] = "dri", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words are near if two letters are swapped in other case
;@   set     [TYPED] = "SL", [OTHER] = "ls"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case a word of one letter is near the empty word
;@   set     [TYPED] = "x", [OTHER] = ""
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case the empty word is near a word of one letter
;@   set     [TYPED] = "", [OTHER] = "x"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case the empty word is near itself
;@   set     [TYPED] = "", [OTHER] = ""
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case a word of two letters is not near the empty word
;@   set     [TYPED] = "ab", [OTHER] = ""
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case the empty word is not near a word of two letters
;@   set     [TYPED] = "", [OTHER] = "ab"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words with two wrong letters are not near
;@   set     [TYPED] = "dab", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words with two letters too many are not near
;@   set     [TYPED] = "dirxx", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words with two letters missing are not near
;@   set     [TYPED] = "d", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words with two letters swapped across another are not near
;@   set     [TYPED] = "rid", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words with a wrong letter and one too many are not near
;@   set     [TYPED] = "firr", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words with two swapped pairs are not near
;@   set     [TYPED] = "badc", [OTHER] = "abcd"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case words with a missing letter and a wrong one are not near
;@   set     [TYPED] = "hpl", [OTHER] = "help"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case a digit is not another letter in other case
;@   set     [TYPED] = "1s", [OTHER] = "Qs"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case bytes above 127 are compared as they are
;@   set     byte [TYPED] = 0xc4, byte [OTHER] = 0xe4
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case the one command that is near is suggested
;@   set     [TYPED] = "hlep", esi = TYPED
;@   call    suggest
;@   expect  ZF = 1, edi = name_help
;@   expect  unchanged esi

;@ case no command is suggested if two are equally near
;@   set     [TYPED] = "ks", esi = TYPED
;@   call    suggest
;@   expect  ZF = 0

;@ case the one command that begins with the word is suggested
;@   set     [TYPED] = "he", esi = TYPED
;@   call    suggest
;@   expect  ZF = 1, edi = name_help

;@ case no command is suggested if none is near
;@   set     [TYPED] = "xyzzy", esi = TYPED
;@   call    suggest
;@   expect  ZF = 0

;@ case a star matches the characters before the end of the pattern
;@   set     [TYPED] = "readme.txt", esi = star_txt, edi = TYPED, ecx = 10
;@   call    match_name
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx, esi, edi, ebp

;@ case a star matches an empty string, too
;@   set     [TYPED] = ".txt", esi = star_txt, edi = TYPED, ecx = 4
;@   call    match_name
;@   expect  ZF = 1

;@ case a pattern matches letters in any case
;@   set     [TYPED] = "A.TXT", esi = star_txt, edi = TYPED, ecx = 5
;@   call    match_name
;@   expect  ZF = 1

;@ case a pattern matches case where the volume distinguishes it
;@   set     [TYPED] = "A.TXT", esi = star_txt, edi = TYPED, ecx = 5, byte [match_case] = 1
;@   call    match_name
;@   expect  ZF = 0

;@ case a name ends at its length and not at a terminator
;@   set     [TYPED] = "a.txtx", esi = star_txt, edi = TYPED, ecx = 5
;@   call    match_name
;@   expect  ZF = 1

;@ case a star is tried again with more characters after a mismatch
;@   set     [TYPED] = "a.tx.txt", esi = star_txt, edi = TYPED, ecx = 8
;@   call    match_name
;@   expect  ZF = 1

;@ case parts between stars match in their order
;@   set     [TYPED] = "aXbbXcXc", esi = two_stars, edi = TYPED, ecx = 8
;@   call    match_name
;@   expect  ZF = 1

;@ case parts between stars do not match out of order
;@   set     [TYPED] = "acb", esi = two_stars, edi = TYPED, ecx = 3
;@   call    match_name
;@   expect  ZF = 0

;@ case star dot star matches a name without a dot, as in DOS
;@   set     [TYPED] = "docs", esi = dos_all, edi = TYPED, ecx = 4
;@   call    match_name
;@   expect  ZF = 1

;@ case a question mark matches one character of any number of bytes
;@   set     dword [TYPED] = 0x78a4c3, esi = one_each, edi = TYPED, ecx = 3
;@   call    match_name
;@   expect  ZF = 1

;@ case a question mark does not match an empty string
;@   set     [TYPED] = "x", esi = one_each, edi = TYPED, ecx = 1
;@   call    match_name
;@   expect  ZF = 0

;@ case an empty name does not match a letter
;@   set     esi = star_txt, edi = TYPED, ecx = 0
;@   call    match_name
;@   expect  ZF = 0

;@ case a quoted star matches only a star
;@   set     [OTHER] = "*", [TYPED] = "a", esi = OTHER, edi = TYPED, ecx = 1
;@   call    match_name
;@   expect  ZF = 0

;@ case wildcards are shown as they were typed
;@   set     esi = two_stars
;@   call    plain_word
;@   expect  [two_stars] = "a*b*c"
;@   expect  unchanged esi

;@ case a word with wildcards is recognised
;@   set     esi = one_each
;@   call    is_pattern
;@   expect  ZF = 1

;@ case a word without wildcards is recognised, too
;@   set     [OTHER] = "a*?", esi = OTHER
;@   call    is_pattern
;@   expect  ZF = 0
