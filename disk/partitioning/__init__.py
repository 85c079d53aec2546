"""Partition tables, and what else may be found in their place.

Rule: it reports what a disk holds; servers decide what they can mount.
"""
