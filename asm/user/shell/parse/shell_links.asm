; Where symbolic links lead, for ls -l.

TARGET_SIZE = MESSAGE_DATA_SIZE         ; no server can send more than that
LINKS_SIZE = MESSAGE_DATA_SIZE - 1      ; bytes of a directory and of names of links in it, as the kernel takes them
LINK_LENGTH = 2                         ; bytes of a target's length in the answer for several

; forget_targets: forget what servers have said of links, before a listing.
;   clobbers:  flags
forget_targets:
        mov     dword ptr [targets_left], 0
        mov     dword ptr [targets_alone], 0
        ret

; put_target: append ` -> TARGET` for a symbolic link; nothing if its server does not say where links lead.  The links of a
; listing come here in their order: several are asked for at once.
;   in:        ebx  index in `entries`, edi  DirectoryEntry, path  its directory
;   out:       CF=1  eax  ErrorCode: it cannot be read, nothing has been appended
;              link_path, link_length  the link, unless it is INTERRUPTED
;   clobbers:  eax, ecx, edx, esi, flags
put_target:
        push    edi
        call    take_target
        jnc     .told
        call    ask_targets
        jc      .failed
        call    take_target
.told:
        jecxz   .alone
.put:
        push    ecx
        push    esi
        mov     esi, arrow
        call    put_string
        pop     esi
        pop     ecx
        call    put_text
        clc
        pop     edi
        ret

.alone:
        mov     edx, [esp]
        call    begin_links
        cmp     byte ptr [path + 1], 0
        je      .name
        mov     byte ptr [edi], '/'
        inc     edi
.name:
        movzx   ecx, word ptr [edx + DirectoryEntry.name_length]
        lea     esi, [edx + DIRECTORY_NAME_OFFSET]
        cmp     ecx, DIRECTORY_NAME_LIMIT
        jbe     .whole
        mov     ecx, DIRECTORY_NAME_LIMIT       ; a server may send more
.whole:
        rep movsb
        mov     esi, link_path
        mov     ecx, edi
        sub     ecx, esi
        mov     [link_length], ecx
        mov     edi, target
        mov     edx, TARGET_SIZE
        SYSTEM  READ_LINK
        mov     ecx, eax
        mov     esi, target
        jnc     .put
.failed:
        pop     edi
        cmp     eax, ErrorCode.NOT_SUPPORTED
        je      .done
        stc
.done:
        ret

; begin_links: begin link_path with the directory.
;   out:       edi  after it
;   clobbers:  ecx, esi, flags
begin_links:
        mov     edi, link_path
        mov     esi, path
        call    length
        rep movsb
        ret

; ask_targets: ask where a link and those after it in the listing lead, as many as have room in a request.
;   in:        ebx  index of the link in `entries`, path  their directory
;   out:       CF=0  targets, targets_left: 0 = ask for it alone        CF=1  eax  ErrorCode.INTERRUPTED
;   clobbers:  eax, ecx, edx, esi, edi, flags
ask_targets:
        cmp     dword ptr [targets_alone], 0
        jne     .done
        call    begin_links
        xor     edx, edx
        mov     eax, ebx
.next:
        cmp     eax, [entry_count]
        jae     .collected
        mov     esi, [entries]
        mov     esi, [esi + eax * 4]
        inc     eax
        test    dword ptr [esi + DirectoryEntry.attributes], FileAttributes.SYMLINK
        jz      .next
        movzx   ecx, word ptr [esi + DirectoryEntry.name_length]
        add     esi, DIRECTORY_NAME_OFFSET
        add     ecx, edi
        cmp     ecx, link_path + LINKS_SIZE     ; a server may send more than a name's limit, too
        jae     .collected
        sub     ecx, edi
        mov     byte ptr [edi], 0
        inc     edi
        rep movsb
        inc     edx
        jmp     .next
.collected:
        cmp     edx, 2
        jb      .done
        push    edx
        mov     esi, link_path
        mov     ecx, edi
        sub     ecx, esi
        mov     edi, targets
        mov     edx, TARGET_SIZE
        SYSTEM  READ_LINK
        pop     edx
        jc      .failed
        mov     [targets_left], edx
        mov     [targets_at], edi
        add     eax, edi
        mov     [targets_end], eax
.done:
        clc
        ret
.failed:
        cmp     eax, ErrorCode.INTERRUPTED
        stc
        je      .end
        mov     dword ptr [targets_alone], 1    ; a server of an older kind, or one that will say why
        clc
.end:
        ret

; take_target: take the next target of those that have been asked for.
;   out:       ecx  bytes, 0 = ask for it alone; esi  address        CF=1  no more have been answered, and ecx is 0
;   clobbers:  eax, flags
take_target:
        xor     ecx, ecx
        cmp     [targets_left], ecx
        je      .short
        dec     dword ptr [targets_left]
        mov     esi, [targets_at]
        mov     eax, [targets_end]
        sub     eax, esi
        sub     eax, LINK_LENGTH
        jb      .short                          ; the server has answered fewer
        movzx   ecx, word ptr [esi]
        add     esi, LINK_LENGTH
        cmp     ecx, eax
        ja      .short
        lea     eax, [esi + ecx]
        mov     [targets_at], eax
        clc
        ret

.short:
        xor     ecx, ecx
        mov     [targets_left], ecx
        stc
        ret

; report_link: say why the link of put_target cannot be read.
;   in:        eax  ErrorCode
;   out:       eax  STATUS_FAILED
;   clobbers:  ecx, esi, flags
report_link:
        cmp     eax, ErrorCode.INTERRUPTED
        je      report_break
        push    eax
        mov     esi, [words]
        call    put_string
        mov     esi, colon
        call    put_string
        mov     esi, link_path
        mov     ecx, [link_length]
        call    put_text
        pop     eax
        jmp     put_error

        .rodata
arrow:
        .asciz  " -> "
        .bss
        .align 4
link_length:
        .space  4
targets_left:
        .space  4
targets_alone:
        .space  4
targets_at:
        .space  4
targets_end:
        .space  4
link_path:
        .space  LINKS_SIZE + 1
target:
        .space  TARGET_SIZE
targets:
        .space  TARGET_SIZE
        .text
