"""ATA drives that either controller has: commands, errors, and how long they take.

Rule: a drive does not know its controller.
"""
