"""What a drive reads from and writes to: image files, memory, copy on write, and faults wrapped around any of them.

Rule: sectors only; a medium knows neither its drive nor what its sectors mean.

What tests and tools put in place of an image file is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from callgate.disk.media.image_file import ImageFile
from callgate.disk.media.medium import Image, ImageError, Medium, MediumError, MediumRemovedError
from callgate.disk.media.opening import open_image

if TYPE_CHECKING:
    from callgate.disk.media.faults import FaultInjecting
    from callgate.disk.media.memory import MemoryMedium
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


def __getattr__(name: str) -> object:
    """Return what is exported; AttributeError for any other name."""
    if name == "FaultInjecting":
        from callgate.disk.media.faults import FaultInjecting

        return FaultInjecting
    if name == "MemoryMedium":
        from callgate.disk.media.memory import MemoryMedium

        return MemoryMedium
    if name == "Overlay":
        from callgate.disk.media.overlay import Overlay

        return Overlay
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
