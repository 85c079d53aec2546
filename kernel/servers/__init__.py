"""Server processes from start to end, mounting, and disks that come and go.

Rule: files and servers do not know each other.
"""
