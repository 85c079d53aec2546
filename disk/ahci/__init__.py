"""An AHCI 1.3.1 controller, as a driver finds it: registers, ports, commands.

Rule: it moves data by DMA; its drives know the meaning of commands.
"""
