; The shell's two comparisons, alone: is a word one slip away from another, does a name match a pattern?
        .include "text.asm"
        .include "pattern.asm"
        .include "shell_suggest.asm"

; What shell_suggest.asm asks of the rest of the shell.
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

; near: near_word, without which ESI and EDI would have to be said in every case.
near:
        mov     esi, TYPED
        mov     edi, OTHER
        call    near_word
        ret

;@ case near: the same word
;@   set     [TYPED] = "dir", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: the same word in other letters
;@   set     [TYPED] = "DIR", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: a letter is missing at the front
;@   set     [TYPED] = "ir", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: a letter is missing in the middle
;@   set     [TYPED] = "dr", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: a letter is missing at the end
;@   set     [TYPED] = "di", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: a letter is too many at the front
;@   set     [TYPED] = "adir", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: a letter is too many in the middle
;@   set     [TYPED] = "diir", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: a letter is too many at the end
;@   set     [TYPED] = "dirr", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: a letter is wrong at the front
;@   set     [TYPED] = "fir", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: a letter is wrong in the middle
;@   set     [TYPED] = "der", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: a letter is wrong at the end
;@   set     [TYPED] = "dit", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: two letters changed places at the front
;@   set     [TYPED] = "idr", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: two letters changed places at the end
;@   set     [TYPED] = "dri", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: two letters changed places in other case
;@   set     [TYPED] = "SL", [OTHER] = "ls"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: one letter against none
;@   set     [TYPED] = "x", [OTHER] = ""
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: none against one letter
;@   set     [TYPED] = "", [OTHER] = "x"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: nothing against nothing
;@   set     [TYPED] = "", [OTHER] = ""
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: two letters against none
;@   set     [TYPED] = "ab", [OTHER] = ""
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: none against two letters
;@   set     [TYPED] = "", [OTHER] = "ab"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: two wrong letters
;@   set     [TYPED] = "dab", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: two letters too many
;@   set     [TYPED] = "dirxx", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: two letters missing
;@   set     [TYPED] = "d", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: letters that changed places across another
;@   set     [TYPED] = "rid", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: a wrong letter and one too many
;@   set     [TYPED] = "firr", [OTHER] = "dir"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: two pairs that changed places
;@   set     [TYPED] = "badc", [OTHER] = "abcd"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: a missing letter and a wrong one
;@   set     [TYPED] = "hpl", [OTHER] = "help"
;@   call    near
;@   expect  ZF = 0
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: a digit is not a letter's other case
;@   set     [TYPED] = "1s", [OTHER] = "Qs"
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case near: bytes above 127 are compared as they are
;@   set     byte [TYPED] = 0xc4, byte [OTHER] = 0xe4
;@   call    near
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx

;@ case suggest: one command is near
;@   set     [TYPED] = "hlep", esi = TYPED
;@   call    suggest
;@   expect  ZF = 1, edi = name_help
;@   expect  unchanged esi

;@ case suggest: two commands are as near
;@   set     [TYPED] = "ks", esi = TYPED
;@   call    suggest
;@   expect  ZF = 0

;@ case suggest: one command begins so
;@   set     [TYPED] = "he", esi = TYPED
;@   call    suggest
;@   expect  ZF = 1, edi = name_help

;@ case suggest: nothing is near
;@   set     [TYPED] = "xyzzy", esi = TYPED
;@   call    suggest
;@   expect  ZF = 0

;@ case match: a star takes what stands before the end
;@   set     [TYPED] = "readme.txt", esi = star_txt, edi = TYPED, ecx = 10
;@   call    match_name
;@   expect  ZF = 1
;@   expect  unchanged eax, ebx, ecx, edx, esi, edi, ebp

;@ case match: a star takes nothing, too
;@   set     [TYPED] = ".txt", esi = star_txt, edi = TYPED, ecx = 4
;@   call    match_name
;@   expect  ZF = 1

;@ case match: letters in any case
;@   set     [TYPED] = "A.TXT", esi = star_txt, edi = TYPED, ecx = 5
;@   call    match_name
;@   expect  ZF = 1

;@ case match: letters in their case where the volume tells them apart
;@   set     [TYPED] = "A.TXT", esi = star_txt, edi = TYPED, ecx = 5, byte [match_case] = 1
;@   call    match_name
;@   expect  ZF = 0

;@ case match: the end of the name counts, not a terminator
;@   set     [TYPED] = "a.txtx", esi = star_txt, edi = TYPED, ecx = 5
;@   call    match_name
;@   expect  ZF = 1

;@ case match: a later try succeeds where the first one failed
;@   set     [TYPED] = "a.tx.txt", esi = star_txt, edi = TYPED, ecx = 8
;@   call    match_name
;@   expect  ZF = 1

;@ case match: stars in order
;@   set     [TYPED] = "aXbbXcXc", esi = two_stars, edi = TYPED, ecx = 8
;@   call    match_name
;@   expect  ZF = 1

;@ case match: stars out of order
;@   set     [TYPED] = "acb", esi = two_stars, edi = TYPED, ecx = 3
;@   call    match_name
;@   expect  ZF = 0

;@ case match: as in DOS a name needs no dot for star dot star
;@   set     [TYPED] = "docs", esi = dos_all, edi = TYPED, ecx = 4
;@   call    match_name
;@   expect  ZF = 1

;@ case match: a question mark is a character, of however many bytes
;@   set     dword [TYPED] = 0x78a4c3, esi = one_each, edi = TYPED, ecx = 3
;@   call    match_name
;@   expect  ZF = 1

;@ case match: a question mark is one character, not none
;@   set     [TYPED] = "x", esi = one_each, edi = TYPED, ecx = 1
;@   call    match_name
;@   expect  ZF = 0

;@ case match: an empty name matches no letter
;@   set     esi = star_txt, edi = TYPED, ecx = 0
;@   call    match_name
;@   expect  ZF = 0

;@ case match: a quoted star is a letter
;@   set     [OTHER] = "*", [TYPED] = "a", esi = OTHER, edi = TYPED, ecx = 1
;@   call    match_name
;@   expect  ZF = 0

;@ case match: wildcards become what was typed
;@   set     esi = two_stars
;@   call    plain_word
;@   expect  [two_stars] = "a*b*c"
;@   expect  unchanged esi

;@ case match: a word with wildcards is known
;@   set     esi = one_each
;@   call    is_pattern
;@   expect  ZF = 1

;@ case match: a word without is known, too
;@   set     [OTHER] = "a*?", esi = OTHER
;@   call    is_pattern
;@   expect  ZF = 0
