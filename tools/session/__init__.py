"""A booted system at a terminal: input, output, traces, how it ends.

Rule: however the process ends, the terminal is restored.
"""
