"""From text to statements: sources, preprocessor, macros, names, expressions, operands.

Rule: what is written, not what it becomes; no byte is made here.
"""
