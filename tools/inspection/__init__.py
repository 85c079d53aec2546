"""What is in an image, by the servers that would mount it.

Rule: what is told here is what a booted system would say.
"""
