"""Disks, requests to disks, and the block cache.

Rule: disks, blocks and sectors only; other rooms know their meaning.
"""
