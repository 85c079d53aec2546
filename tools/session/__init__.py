"""A booted system at a terminal: input, output, traces, how it ends.

Rule: whatever ends the process, the terminal is left as it was found.
"""
