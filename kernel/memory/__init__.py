"""Page frames, page tables, descriptors, windows of user pages, and access to the memory of ring 3.

Rule: this room knows who holds a frame, and not what the frame is for.
"""
