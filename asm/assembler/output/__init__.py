"""What an assembly yields, and its files: programs, ELF, DWARF, listings.

Rule: a program comes back whole from its file.
"""
