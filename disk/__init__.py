"""Disk controllers as devices, media, partition tables and image building."""
