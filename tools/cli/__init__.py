"""The command line: a file for each command.

Rule: arguments are read and refused here; what a command does lies in other rooms.
"""
