"""Instructions that the engine gets wrong, caught before they execute.

Rule: code without such an instruction costs nothing.
"""
