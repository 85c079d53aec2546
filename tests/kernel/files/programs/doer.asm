; Does one thing, chosen by a letter, with `before` at the call that does it:
;   o  opens a file        u  maps its first data        c  maps data that the disk cache has already
;   l  lists a directory   t  starts a thread            e  ends
; Exit code: 0 it went well, 100 + ErrorCode it did not.

        .include "system.inc"

STACK = 4096

start:
        mov     al, [USER_ARGUMENTS]
        cmp     al, 'o'
        je      open
        cmp     al, 'u'
        je      uncached
        cmp     al, 'c'
        je      cached
        cmp     al, 'l'
        je      list
        cmp     al, 't'
        je      thread
        xor     ebx, ebx
        mov     eax, SystemCall.EXIT
        jmp     before

open:
        mov     esi, file
        mov     ecx, file_length
        xor     edx, edx
        mov     eax, SystemCall.OPEN
        jmp     before

uncached:
        call    open_file
map:
        mov     ebx, eax
        xor     edx, edx
        xor     esi, esi
        mov     ecx, PAGE_SIZE
        mov     eax, SystemCall.MAP_FILE
        jmp     before

cached:
        call    open_file
        mov     [handle], eax
        mov     ebx, eax
        xor     edx, edx
        xor     esi, esi
        mov     ecx, PAGE_SIZE
        SYSTEM  MAP_FILE
        jc      failed
        mov     ebx, [handle]
        SYSTEM  CLOSE
        jc      failed
        call    open_file
        jmp     map

list:
        mov     esi, directory
        mov     ecx, directory_length
        mov     eax, SystemCall.LOCK_DIRECTORY
        jmp     before

thread:
        mov     ebx, other
        mov     ecx, stack_top
        mov     eax, SystemCall.START_THREAD

before: call    SELECTOR_SYSTEM_GATE:0
after:  jc      failed
        xor     ebx, ebx
exit:   SYSTEM  EXIT

failed: lea     ebx, [eax + 100]
        jmp     exit

other:  jmp     other

open_file:
        mov     esi, file
        mov     ecx, file_length
        xor     edx, edx
        SYSTEM  OPEN
        jc      failed
        ret

        .data
        .align 4
handle: .long   0
file:   .ascii  "/d0/A.BIN"
file_length = $ - file
directory:
        .ascii  "/d0"
directory_length = $ - directory
        .bss
        .space  STACK
stack_top:
