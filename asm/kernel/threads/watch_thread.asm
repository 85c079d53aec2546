; watch_thread: body of the kernel thread that calls disk_watch.  It sleeps as long as no command is in flight; policy
; wakes it (kernel/servers/disk_changes.py).
;   leaves by: never
watch_thread:
        .frame  none
        mov     eax, WaitReason.SLEEP
        call    block
        call    disk_watch
        HOST    DISK_WATCHED
        jmp     watch_thread

; release_thread: body of the kernel thread that tells servers which resources are no longer used. It waits for no
; server; policy wakes it when there is a slot for a release (kernel/ipc/deferred_releases.py).
;   leaves by: never
release_thread:
        .frame  none
        POLICY  POST_RELEASES
        mov     eax, WaitReason.SLEEP
        call    block
        jmp     release_thread

; ageing_thread: body of the kernel thread that checks which pages of files are still accessed. It sleeps as long as no
; file data is mapped; policy wakes it (kernel/file_data/ageing.py).
;   leaves by: never
ageing_thread:
        .frame  none
        POLICY  FILES_AGE
        mov     eax, WaitReason.SLEEP
        call    block
        jmp     ageing_thread
