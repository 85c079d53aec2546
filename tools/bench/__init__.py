"""Benchmarks: exact counts, and times that are compared only within one run."""
