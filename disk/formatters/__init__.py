"""Writers of file systems: a tree of files becomes the content of a partition.

Rule: it imports nothing else of the disks; the readers of these file systems, in `server`, share no code with it.
"""
