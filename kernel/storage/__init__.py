"""Disks, requests to them, and the block cache.

Rule: blocks and sectors only; what they mean is known to servers and files.
"""
