; Dates: seconds since 1970 to year, month, day, hour and minute.

SECONDS_PER_DAY = 86400
DAYS_PER_ERA = 146097           ; 400 years
DAYS_TO_1970 = 719468           ; from 0000-03-01, where leap days come last in a year
SECONDS_TO_1970 = DAYS_TO_1970 * SECONDS_PER_DAY

; put_date: append `2026-11-23 14:05`, or blanks for 0.
;   in:        edx:eax  seconds since 1970, negative before; blanks for years before 0 as well
;   clobbers:  flags
put_date:
        pushad
        mov     ecx, eax
        or      ecx, edx
        jz      .none
        add     eax, SECONDS_TO_1970 & 0xFFFFFFFF
        adc     edx, SECONDS_TO_1970 >> 32
        mov     ecx, SECONDS_PER_DAY
        cmp     edx, ecx
        jae     .none
        div     ecx
        push    edx

        ; Years of an era begin in March: the day of the year gives the month by one division.
        xor     edx, edx
        mov     ecx, DAYS_PER_ERA
        div     ecx
        mov     edi, eax
        mov     esi, edx
        call    year_of_era
        imul    edi, edi, 400
        add     edi, eax
        mov     eax, esi
        lea     eax, [eax + eax * 4 + 2]
        xor     edx, edx
        mov     ecx, 153
        div     ecx
        mov     ebp, eax
        imul    eax, eax, 153
        add     eax, 2
        xor     edx, edx
        mov     ecx, 5
        div     ecx
        sub     esi, eax
        inc     esi
        add     ebp, 3
        cmp     ebp, 12
        jbe     .same_year
        sub     ebp, 12
        inc     edi
.same_year:
        mov     eax, edi
        call    put_number
        mov     al, '-'
        call    put_character
        mov     eax, ebp
        call    put_two
        mov     al, '-'
        call    put_character
        mov     eax, esi
        call    put_two
        call    put_space
        pop     eax
        xor     edx, edx
        mov     ecx, 3600
        div     ecx
        call    put_two
        mov     al, ':'
        call    put_character
        mov     eax, edx
        xor     edx, edx
        mov     ecx, 60
        div     ecx
        call    put_two
        popad
        ret
.none:
        mov     esi, no_date
        call    put_string
        popad
        ret

; year_of_era: split a day of an era.
;   in:        esi  day of the era, 0 to 146096
;   out:       eax  year of the era, esi  day of that year, 0 to 365
;   clobbers:  ebx, ecx, edx, flags
year_of_era:
        mov     ebx, esi
        mov     eax, esi
        xor     edx, edx
        mov     ecx, 1460
        div     ecx
        sub     ebx, eax
        mov     eax, esi
        xor     edx, edx
        mov     ecx, 36524
        div     ecx
        add     ebx, eax
        mov     eax, esi
        xor     edx, edx
        mov     ecx, 146096
        div     ecx
        sub     ebx, eax
        mov     eax, ebx
        xor     edx, edx
        mov     ecx, 365
        div     ecx

        ; Days before that year: 365 * y + y / 4 - y / 100.
        mov     ebx, eax
        imul    ecx, eax, 365
        sub     esi, ecx
        shr     eax, 2
        sub     esi, eax
        mov     eax, ebx
        xor     edx, edx
        mov     ecx, 100
        div     ecx
        add     esi, eax
        mov     eax, ebx
        ret

; put_two: append a number with two digits.
;   in:        eax  0 to 99
;   clobbers:  flags
put_two:
        push    eax
        push    ecx
        mov     cl, 10
        div     cl
        add     ax, '0' | '0' << 8
        call    put_character
        mov     al, ah
        call    put_character
        pop     ecx
        pop     eax
        ret

        .rodata
no_date:
        .asciz  "                "
        .text
