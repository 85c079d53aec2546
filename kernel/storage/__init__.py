"""Disks, requests to disks, and the block cache.

Rule: disks, blocks and sectors only; servers and files know what they mean.
"""
