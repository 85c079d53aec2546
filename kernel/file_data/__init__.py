"""Data of files in memory: asked for, answered, read by the disk, mapped, let go of.

Rule: a page of file data is reached by its file and position; handles and paths are known above.
"""
