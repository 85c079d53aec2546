"""An IDE controller with PIO only.

Rule: the CPU moves every byte.
"""
