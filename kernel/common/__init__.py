"""Helpers that know nothing of callgate, so that everything may import them: the nearest name, what was used last."""
