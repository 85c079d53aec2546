"""The entrances into policy from ring 3 and machine code: system calls, server calls, host calls, faults, exits.

Rule: only here does policy read a caller's registers and write results into them; the rooms below do the work.
"""
