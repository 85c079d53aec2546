"""DWARF: lines, subprograms, types and variables, call frames.

Rule: nothing here runs unless a file with debug information is written.
"""
