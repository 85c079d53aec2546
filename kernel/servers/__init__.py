"""Processes of servers from start to end, mounting, and disks that come and go.

Rule: this room knows volumes and disks, and neither directories nor open files.
"""
