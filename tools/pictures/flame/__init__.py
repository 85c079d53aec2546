"""Flame graphs: every guest instruction of a run, counted by the routines that it was executed in."""
