"""Registers and tables of disk controllers, requests to them, and lists of sectors."""
