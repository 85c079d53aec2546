"""What a drive reads from and writes to: image files, memory, copy on write, and faults wrapped around any of them.

Rule: sectors only; a medium knows neither its drive nor what its sectors mean.
"""

from callgate.disk.media.faults import FaultInjecting
from callgate.disk.media.image_file import ImageFile
from callgate.disk.media.medium import Image, ImageError, Medium, MediumError, MediumRemovedError
from callgate.disk.media.memory import MemoryMedium
from callgate.disk.media.opening import open_image
from callgate.disk.media.overlay import Overlay

__all__ = [
    "FaultInjecting",
    "Image",
    "ImageError",
    "ImageFile",
    "Medium",
    "MediumError",
    "MediumRemovedError",
    "MemoryMedium",
    "Overlay",
    "open_image",
]
