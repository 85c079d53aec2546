"""What comes in from ring 3 and from machine code: system calls, server calls, host calls, faults, exits.

Rule: arguments are checked here, and what is done is done by the rooms below.
"""
