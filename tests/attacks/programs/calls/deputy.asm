; Pointers of others: the kernel, which may read and write everything, is asked to do it for a program that may not.

        .include "attack.inc"

        ATTACKS

KERNEL_TEXT = KERNEL_BASE + KERNEL_LOAD
TOP = 0xfffffff0
UNMAPPED = USER_FILES_END - PAGE_SIZE
ROM = 0
PIECE = 0x100000                ; bytes of the first piece of memory
        .ifndef HEAP_LIMIT
HEAP_LIMIT = USER_FILES
        .endif

; POINTERS call, register: make a call with pointers to the kernel, across its border, around the end of the address
; space and to nothing; each must be BAD_ADDRESS.
        .macro POINTERS call, register
        mov     ebp, bad_pointers
.next\@:
        xor     ebx, ebx
        mov     ecx, path_length
        xor     edx, edx
        mov     esi, path
        xor     edi, edi
        mov     \register, [ebp]
        SYSTEM  \call
        REFUSED BAD_ADDRESS
        add     ebp, 4
        cmp     ebp, bad_pointers_end
        jb      .next\@
        .endm

; READ_ONLY call: have a result written to this program's code and to its read-only arguments.
        .macro READ_ONLY call
        xor     ebx, ebx
        mov     edi, start
        SYSTEM  \call
        REFUSED BAD_ADDRESS
        xor     ebx, ebx
        mov     edi, USER_ARGUMENTS
        SYSTEM  \call
        REFUSED BAD_ADDRESS
        .endm

write_out_kernel:
        POINTERS WRITE, esi
        cmp     dword ptr [unchanged], 0x12345678
        jne     gained
        jmp     held

path_from_kernel:
        POINTERS OPEN, esi
        POINTERS LOCK_DIRECTORY, esi
        POINTERS START_PROCESS, esi
        jmp     held

command_line_from_kernel:
        POINTERS START_PROCESS, edi
        jmp     held

volume_to_kernel:
        POINTERS VOLUME_INFORMATION, edi
        READ_ONLY VOLUME_INFORMATION
        jmp     held

process_to_kernel:
        POINTERS PROCESS_INFORMATION, edi
        READ_ONLY PROCESS_INFORMATION
        jmp     held

ipc_to_kernel:
        POINTERS IPC_INFORMATION, edi
        READ_ONLY IPC_INFORMATION
        jmp     held

ledger_to_kernel:
        POINTERS LEDGER, edi
        READ_ONLY LEDGER
        jmp     held

; thread_in_kernel: a thread that starts in the kernel's code or with its stack there.
thread_in_kernel:
        mov     ebx, KERNEL_TEXT
        mov     ecx, USER_STACK_TOP - 0x1000
        SYSTEM  START_THREAD
        REFUSED BAD_ADDRESS
        mov     ebx, held
        mov     ecx, KERNEL_TEXT
        SYSTEM  START_THREAD
        REFUSED BAD_ADDRESS
        jmp     held

handler_in_kernel:
        mov     ebx, KERNEL_TEXT
        mov     esi, start
        mov     edi, held
        SYSTEM  FILE_HANDLER
        REFUSED BAD_ADDRESS
        mov     ebx, held
        mov     esi, KERNEL_TEXT
        mov     edi, KERNEL_TEXT + PAGE_SIZE
        SYSTEM  FILE_HANDLER
        REFUSED BAD_ADDRESS
        jmp     held

; long_path: a length that wraps around, or is as long as the page that paths are copied to.
long_path:
        mov     esi, path
        mov     ecx, -1
        SYSTEM  OPEN
        REFUSED NAME_TOO_LONG
        mov     esi, path
        mov     ecx, PAGE_SIZE
        SYSTEM  OPEN
        REFUSED NAME_TOO_LONG
        mov     esi, path
        mov     ecx, MESSAGE_DATA_SIZE
        SYSTEM  OPEN
        REFUSED NAME_TOO_LONG
        jmp     held

; nested_path: a zero byte in a path ends it for some and not for others.
nested_path:
        mov     esi, forked
        mov     ecx, forked_length
        SYSTEM  OPEN
        REFUSED BAD_ARGUMENT
        mov     esi, forked
        mov     ecx, forked_length
        xor     edi, edi
        SYSTEM  START_PROCESS
        REFUSED BAD_ARGUMENT
        jmp     held

; stack_in_kernel: the gate takes the kernel's stack from the TSS, not from ESP: all of it is tried before the call.
stack_in_kernel:
        mov     esp, KERNEL_BASE + 0x9000
        mov     eax, SystemCall.CLOCK
        call    SELECTOR_SYSTEM_GATE:0
        mov     esp, USER_STACK_TOP - 16
        mov     ebx, HELD
        SYSTEM  EXIT

; segments: the caller's segment registers are null or strange in the gate; the kernel loads its own.
segments:
        xor     eax, eax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     eax, SystemCall.CLOCK
        call    SELECTOR_SYSTEM_GATE:0
        jc      gained
        mov     eax, es
        test    eax, eax
        jnz     gained
        mov     eax, SELECTOR_USER_DATA
        mov     es, ax
        mov     ds, ax
        jmp     held

; flags: DF, TF, NT and AC are set in the gate; string instructions of the kernel still go up, and DF comes back.
flags:
        pushfd
        or      dword ptr [esp], 0x44400
        popfd
        mov     esi, path
        mov     ecx, path_length
        SYSTEM  LOCK_DIRECTORY
        jc      gained
        pushfd
        pop     eax
        test    eax, 0x400
        jz      gained
        cld
        SYSTEM  UNLOCK_DIRECTORY
        jc      gained
        jmp     held

; joined_path: a path that fits into the page that paths are copied to, and no longer fits after the current directory.
joined_path:
        mov     esi, slashes
        mov     ecx, DIRECTORY_BYTES
        SYSTEM  SET_DIRECTORY
        jc      gained
        mov     esi, letters
        mov     ecx, MESSAGE_DATA_SIZE - 1
        xor     edx, edx
        SYSTEM  OPEN
        REFUSED NAME_TOO_LONG
        jmp     held

; current_directory: one that is longer than the kernel keeps, and one that begins nowhere.
current_directory:
        mov     esi, slashes
        mov     ecx, DIRECTORY_BYTES + 1
        SYSTEM  SET_DIRECTORY
        REFUSED NAME_TOO_LONG
        mov     esi, letters
        mov     ecx, 1
        SYSTEM  SET_DIRECTORY
        REFUSED BAD_ARGUMENT
        jmp     held

; endless_string: a command line without an end: the kernel looks no further than the page that it has for it.
endless_string:
        mov     ecx, 2 * PAGE_SIZE
        SYSTEM  ALLOCATE
        jc      gained
        mov     edi, eax
        mov     ebp, eax
        mov     ecx, 2 * PAGE_SIZE
        mov     al, 'a'
        rep     stosb
        mov     esi, hello
        mov     ecx, hello_length
        mov     edi, ebp
        SYSTEM  START_PROCESS
        REFUSED BAD_ARGUMENT
        jmp     held

; unknown_flags: uses of a file that there are not.
unknown_flags:
        mov     ebp, 4
.next:
        mov     esi, hello
        mov     ecx, hello_length
        mov     edx, ebp
        SYSTEM  OPEN
        REFUSED BAD_ARGUMENT
        add     ebp, ebp
        jnz     .next
        jmp     held

; root_as_file: the root directory belongs to no server that could be asked about it.
root_as_file:
        mov     esi, root
        mov     ecx, 1
        xor     edx, edx
        SYSTEM  OPEN
        REFUSED IS_DIRECTORY
        mov     esi, root
        mov     ecx, 1
        xor     edi, edi
        SYSTEM  START_PROCESS
        REFUSED IS_DIRECTORY
        mov     esi, root
        mov     ecx, 1
        mov     edi, letters
        mov     edx, PAGE_SIZE
        SYSTEM  READ_LINK
        REFUSED BAD_ARGUMENT
        jmp     held

; outgrown_heap: each piece is a page longer than all gaps before it, so that the heap's end moves on although little is
; held: where file windows begin, nothing more is given.
outgrown_heap:
        mov     ebp, PIECE
.next:
        mov     ecx, ebp
        SYSTEM  ALLOCATE
        jc      .full
        mov     edi, eax
        lea     eax, [eax + ebp]
        cmp     eax, HEAP_LIMIT
        ja      gained
        mov     ecx, PAGE_SIZE
        SYSTEM  ALLOCATE        ; what stays between this gap and the next piece
        jc      .full
        add     eax, PAGE_SIZE
        cmp     eax, HEAP_LIMIT
        ja      gained
        mov     ebx, edi
        SYSTEM  FREE
        jc      gained
        add     ebp, PAGE_SIZE
        jmp     .next
.full:
        REFUSED NO_MEMORY
        jmp     held

        .rodata
        .align 4
attacks:
        .long   write_out_kernel, path_from_kernel, command_line_from_kernel, volume_to_kernel, process_to_kernel
        .long   ipc_to_kernel, ledger_to_kernel, thread_in_kernel, handler_in_kernel, long_path, nested_path
        .long   stack_in_kernel, segments, flags, joined_path, current_directory, endless_string, unknown_flags
        .long   root_as_file, outgrown_heap
COUNT = ($ - attacks) / 4

bad_pointers:
        .long   KERNEL_TEXT, KERNEL_BASE, KERNEL_BASE - 1, TOP, -1, UNMAPPED, KERNEL_MMIO, KERNEL_STACKS
bad_pointers_end:

path:   .ascii  "/rom"
path_length = $ - path
forked: .ascii  "/rom/hello\0more"
forked_length = $ - forked
hello:  .ascii  "/rom/hello"
hello_length = $ - hello
root:   .ascii  "/"
DIRECTORY_BYTES = 511           ; of a current directory
slashes:
        .fill   DIRECTORY_BYTES + 1, 1, '/'
letters:
        .fill   MESSAGE_DATA_SIZE, 1, 'a'

        .data
        .align 4
unchanged:
        .long   0x12345678
