"""The command line: a file for each command.

Rule: arguments are read and refused here; the work of a command is in other rooms.
"""
