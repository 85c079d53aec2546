"""The standard devices, and the ports by which they are reached.

Rule: a device knows its host (`bus.Host`), and never the machine.
"""
