"""The machine under a test: memory, tables, registers, results."""
