"""File data in memory: asked for, answered, read by the disk, mapped, let go of.

Rule: data are found by file object and position; paths and directories are known above.
"""
