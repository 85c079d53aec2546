"""Debugging a booted system: what every front end needs of it (`debuggee`), its history, and the front ends.

Nothing here is written into the guest: breakpoints are sites of the counting hook, watchpoints are hooks of the engine.
"""
