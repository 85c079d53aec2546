"""Observing a kernel from outside: invariants, views, costs, leaks, snapshots.

Rule: a kernel runs the same whether it is watched or not; only `system` and tools import this room.
"""
