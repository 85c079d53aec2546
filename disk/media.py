"""All media: images, memory, copy on write, and faults wrapped around any of them."""

from callgate.disk.faults import FaultInjecting
from callgate.disk.image_file import ImageFile
from callgate.disk.medium import Image, ImageError, Medium, MediumError, MediumRemovedError
from callgate.disk.memory_medium import MemoryMedium
from callgate.disk.open_image import open_image
from callgate.disk.overlay import Overlay

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
