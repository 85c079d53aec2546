"""Paths, directories, open files, and reading at a position.

Rule: this room decides which files a process has open and what it may do with them; it does not know `servers`.
"""
