"""Texts that are printed from the code and from tables: parts of docs, and sources in assembly."""
