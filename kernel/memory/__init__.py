"""Page frames, page tables, descriptors, windows of user pages, and the memory of ring 3.

Rule: what a frame is for is no business of this room; who holds it is.
"""
