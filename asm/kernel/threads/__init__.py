"""Switching threads and their x87, MMX and SSE registers; kernel threads."""
