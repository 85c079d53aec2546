; Does one thing, chosen by a letter, with `before` at the call that does it:
;   o  opens a file        u  maps its first data        c  maps data that the disk cache has already
;   l  lists a directory   k  unlocks a directory       t  starts a thread
;   x  closes a file       w  writes out of a page of a file that has not been read
;   a  allocates memory    f  frees it                  r  reads a character from the console
;   p  starts a program    q  waits for one that it has started
;   s  sleeps              d  sets the directory        v  asks for a volume's numbers
;   z  opens a file with its first data     y  opens one after a file whose CLOSE goes with it
;   g  as w, so much that it goes by DMA
;   e  ends
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
        cmp     al, 'k'
        je      unlock
        cmp     al, 'x'
        je      close
        cmp     al, 'w'
        je      write
        cmp     al, 'a'
        je      allocate
        cmp     al, 'f'
        je      free
        cmp     al, 'r'
        je      character
        cmp     al, 'p'
        je      process
        cmp     al, 'q'
        je      child
        cmp     al, 's'
        je      sleep
        cmp     al, 'd'
        je      set_directory
        cmp     al, 'v'
        je      volume
        cmp     al, 'g'
        je      write_page
        cmp     al, 'z'
        je      first_data
        cmp     al, 'y'
        je      in_turn
        xor     ebx, ebx
        mov     eax, SystemCall.EXIT
        jmp     before

open:
        mov     esi, file
        mov     ecx, file_length
        xor     edx, edx
        mov     eax, SystemCall.OPEN
        jmp     before

in_turn:
        mov     esi, file
        mov     ecx, file_length
        mov     edx, OpenFlags.FROM_START
        SYSTEM  OPEN
        jc      failed
        mov     ebx, eax
        SYSTEM  CLOSE
        jc      failed
first_data:
        mov     esi, file
        mov     ecx, file_length
        mov     edx, OpenFlags.FROM_START
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

unlock:
        mov     esi, directory
        mov     ecx, directory_length
        SYSTEM  LOCK_DIRECTORY
        jc      failed
        mov     eax, SystemCall.UNLOCK_DIRECTORY
        jmp     before

close:  call    map_file
        mov     ebx, [handle]
        mov     eax, SystemCall.CLOSE
        jmp     before

write:  call    map_file
        lea     esi, [eax + PAGE_SIZE]
        mov     ecx, 8
        mov     eax, SystemCall.WRITE
        jmp     before

write_page:
        call    map_file
        lea     esi, [eax + PAGE_SIZE - 100]
        mov     ecx, PAGE_SIZE
        mov     eax, SystemCall.WRITE
        jmp     before

allocate:
        mov     ecx, 5 * PAGE_SIZE
        mov     eax, SystemCall.ALLOCATE
        jmp     before

free:   mov     ecx, 5 * PAGE_SIZE
        SYSTEM  ALLOCATE
        jc      failed
        mov     ebx, eax
        mov     eax, SystemCall.FREE
        jmp     before

character:
        mov     eax, SystemCall.READ_CHARACTER
        jmp     before

process:
        call    name_program
        jmp     before

child:  call    name_program
        call    SELECTOR_SYSTEM_GATE:0
        jc      failed
        mov     ebx, eax
        mov     eax, SystemCall.WAIT_PROCESS
        jmp     before

sleep:  mov     ecx, 5000
        xor     edx, edx
        mov     eax, SystemCall.SLEEP
        jmp     before

set_directory:
        mov     esi, directory
        mov     ecx, directory_length
        mov     eax, SystemCall.SET_DIRECTORY
        jmp     before

volume: mov     ebx, 1
        mov     edi, information
        mov     eax, SystemCall.VOLUME_INFORMATION
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

map_file:
        call    open_file
        mov     [handle], eax
        mov     ebx, eax
        xor     edx, edx
        xor     esi, esi
        mov     ecx, PAGE_SIZE
        SYSTEM  MAP_FILE
        jc      failed
        ret

name_program:
        mov     esi, path
        mov     ecx, path_length
        mov     edi, nothing
        mov     eax, SystemCall.START_PROCESS
        ret

        .data
        .align 4
handle: .long   0
file:   .ascii  "/d0/A.BIN"
file_length = $ - file
directory:
        .ascii  "/d0"
directory_length = $ - directory
path:   .ascii  "/d0/HELLO"
path_length = $ - path
nothing:
        .byte   0
        .bss
        .align 4
information:
        .space  sizeof(VolumeInformation)
        .space  STACK
stack_top:
