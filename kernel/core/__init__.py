"""What every room may know: errors, records, control blocks, coroutines, the guest as policy sees it.

Rule: nothing here decides anything.  It knows the machine and the ABI, and none of the rooms above it.
"""
