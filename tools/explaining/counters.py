"""What each key of the ledger counts (docs/ledger.md, which says more)."""

from typing import Final

COUNTERS: Final = {
    "guest_instructions": "retired instructions: total, ring0, ring3; an iteration of REP is one",
    "host_calls": "calls of policy by machine code, by name; what they do in Python costs no instruction",
    "cr3_loads": "loads of CR3: changes of address space",
    "pte_writes": "stores to page-table entries, by machine code or by policy",
    "tlb_invalidations": "INVLPG, and flushes that policy asks for",
    "ring_changes": "changes between ring 3 and ring 0, both ways",
    "client_gates": "passages through the clients' two gates, the system gate and the IPC gate",
    "server_gates": "passages through the servers' gate",
    "exceptions": "exceptions delivered through the IDT, by name",
    "interrupts": "interrupts delivered through the IDT, by name",
    "fpu_switches": "x87, MMX and SSE registers loaded for another thread than the last one",
    "requests": "requests to servers, those of policy included",
    "fast_requests": "of `requests`, those handed to a sleeping server thread by a direct switch and not posted",
    "fast_replies": "replies that went straight back to a client waiting at the gate",
    "batched_requests": "requests that came in batches; each batch is one of `requests`",
    "fast_handoffs": "switches from one thread to another for which policy was not asked",
    "blocking_waits": "times that a thread went to sleep for something that was not ready",
    "cpu_file_bytes": "bytes of disk blocks that the CPU loaded or stored, by side: kernel, server, client",
    "metadata_bytes": "bytes of locked blocks that hosted servers and policy read: the file systems' own structures",
    "program_bytes": "bytes of files that policy reads to load them as programs",
    "server_bytes": "bytes of hosted servers' own memory that their Python read or wrote",
    "inflated_bytes": "bytes that hosted servers have decompressed",
    "dma_bytes": "bytes that disks and the console moved by DMA: read into memory, write out of it",
    "servers": "by volume: requests, replies, waits, and what became of those that failed",
    "operations": "by operation: how often, and all the keys above between taking a slot and giving it back",
    "cache": "of blocks of disks: hits, misses, evictions, changed and lost ones",
    "file_data": "of READ requests: posted, posted ahead, wasted, readers that waited, pages put together by copying",
}
"""By key of what `callgate boot --stats` writes."""
