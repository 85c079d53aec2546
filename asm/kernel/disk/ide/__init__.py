"""The driver of IDE controllers."""
