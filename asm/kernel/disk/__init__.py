"""Disk requests: queue, completion, sector lists, and the watch over what does not end."""
