"""The bare CPU: one routine, called like a function."""
