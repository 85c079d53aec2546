"""Making disk images: the demo, and folders as file systems.

Rule: the same input gives the same bytes.
"""
