"""What looks at a kernel from outside: invariants, views, costs, what is left over, snapshots.

Rule: a kernel runs the same whether it is watched or not; only `system` and tools import this room.
"""
