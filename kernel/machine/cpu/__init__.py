"""The processor: registers, paging, descriptors, exceptions, and what is kept translated of its code.

Rule: it does what the Intel manual says where the engine does not.
"""
