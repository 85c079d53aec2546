"""Used by every room of the kernel: errors, records, control blocks, coroutines, the log, the guest.

The guest is the machine as policy sees it.

Rule: no policy here; it imports the machine and the ABI, and no room above it.
"""
