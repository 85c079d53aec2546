"""Threads, processes, who runs next, and the shares that each family has of what there is.

Rule: a process ends by calling what it was given for that; it knows neither IPC nor files.
"""
