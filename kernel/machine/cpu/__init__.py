"""The processor: registers, paging, descriptors, exceptions, and the translated code that the engine keeps.

Rule: it does what the Intel manual says where the engine does not.
"""
