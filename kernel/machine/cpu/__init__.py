"""The processor: registers, paging, descriptors, exceptions, and what it caches of memory.

Rule: what the Intel manual says, where the engine does not do it by itself.
"""
