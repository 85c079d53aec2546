"""Processes of servers from start to end, mounting, and disks that are plugged in and removed.

Rule: this room knows volumes and disks, and neither directories nor open files.
"""
