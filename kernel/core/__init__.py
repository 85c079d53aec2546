"""What every room of the kernel uses: errors, records, control blocks, coroutines, the log, the guest.

The guest is the machine as policy sees it.

Rule: nothing here decides anything; it imports the machine and the ABI, and no room above it.
"""
