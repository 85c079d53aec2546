"""The window on frames above 4 GiB."""
