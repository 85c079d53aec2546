"""Partition tables, and what else may be found in their place.

Rule: it says what is there; servers say what they can mount.
"""
