"""Threads, processes, scheduling, and the share of each family in limited resources.

Rule: the end of a process calls a function given for it; neither IPC nor files are known here.
"""
