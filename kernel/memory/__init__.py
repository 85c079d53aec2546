"""Page frames, page tables, descriptors, windows of user pages, and access to the memory of ring 3.

Rule: this room counts the holders of a frame, and does not know what the frame is for.
"""
