"""Paths, handles, directories, and reading at a position.

Rule: what a process has opened, and what it may do with it.
"""
