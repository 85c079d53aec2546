"""The disk whose files are written to."""

from written_disks import files

__all__ = ["files"]
