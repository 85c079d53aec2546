"""RAM, and the buses between it, the CPU and devices.

Rule: addresses are physical; every access by the host says on whose account it is.
"""
