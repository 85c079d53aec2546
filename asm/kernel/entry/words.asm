; The kernel's own data: words shared with policy, task state, GDT.  They lie together because every entry
; into the kernel touches all of them: after a switch of page tables each page costs a TLB miss.

        .data
        .align 4096
kernel_words:
        .space  sizeof(KernelWords)

; The one task: only its ring-0 stack is used.  The I/O map lies beyond the limit, so that ring 3 has no
; port at all (Intel SDM vol. 1, 19.5.2).
        .align 16
task_state:
        .layout TaskState
        .long   0, 0, SELECTOR_KERNEL_DATA
        .space  TaskState.trap - TaskState.unused
        .word   0
        .word   sizeof(TaskState)

; Where the descriptors of endpoints lead that there are none of: it looks like an endpoint for whose slots a thread waits.
        .align 16
no_endpoint:
        .space  Endpoint.slot_waiters
        .long   1
no_endpoint_end:

; Filled by policy (kernel/memory/descriptor_tables.py): the LDT of all servers, and the GDT.
        .align 16
server_table:
        .space  LDT_ENTRIES * 8
gdt:
        .space  GDT_ENTRIES * 8
