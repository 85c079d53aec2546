"""An AHCI 1.3.1 controller, as a driver finds it: registers, ports, commands.

Rule: it moves data by DMA, and asks its drives what a command means.
"""
