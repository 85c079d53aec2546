"""From text to statements: sources, preprocessor, macros, names, expressions, operands.

Rule: no byte of code or data is made here.
"""
