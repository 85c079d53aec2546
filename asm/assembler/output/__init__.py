"""The result of an assembly, and its files: programs, ELF, DWARF (in `debug/`), listings.

Rule: a program that was written to a file can be read back whole.
"""
