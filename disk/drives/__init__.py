"""ATA drives for both controllers: commands, errors, and how long they take.

Rule: a drive does not know its controller.
"""
