"""RAM, and the bus between it and devices.

Rule: physical addresses only; every access by the host says on whose account it is.
"""
