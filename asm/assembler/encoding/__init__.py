"""From statements to bytes: forms of instructions, Keystone and what it gets wrong, layout, data.

Rule: every instruction is encoded alone, and checked by a disassembler.
"""
