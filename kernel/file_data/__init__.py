"""File data in memory: requested, answered, read by the disk, mapped, released.

Rule: data are found by file object and position; rooms above know paths and directories.
"""
