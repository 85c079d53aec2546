"""Partition tables, and what else may be found in their place.

Rule: what is found is told; which of it mounts is for the servers to say.
"""
