"""Paths, directories, open files, and reading at a position.

Rule: this room decides what a process has open and what it may do with it; it does not know `servers`.
"""
