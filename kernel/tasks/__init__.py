"""Threads, processes, scheduling, and the share that each family has in what is limited.

Rule: a process that ends calls a function that it was given for that; neither IPC nor files are known here.
"""
