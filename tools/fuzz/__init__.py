"""Damaged images and random code, from a seed.

Rule: the same seed gives the same run.
"""
