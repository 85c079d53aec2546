"""Opening an image of any supported kind: raw, compressed, or in a container.

The content of a file decides its kind, not its name. The modules of compressed images and containers are loaded when
one is met, so that opening a raw image stays fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from callgate.disk.media.containers import magic
from callgate.disk.media.image_file import ImageFile, RawFile
from callgate.disk.media.medium import Image, ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from callgate.disk.media.containers.container import ContainerFile

LONG: Final = 16 << 20  # more bytes than this take a while to unpack
LAYERS: Final = 2  # of compression around one image
STANDARD_INPUT: Final = Path("-")


def open_image(path: Path, say: Callable[[str], None] = lambda _line: None) -> Image:
    """Open an image, read-only; the path `-` is standard input.  ImageError says why it cannot be used.

    `say` is called with a line before a step that may take long.
    Close it when it is no longer needed: an image that had to be unpacked or came from a pipe is in a temporary file.
    """
    file = _open_file(path)
    try:
        return _unpacked(file, say) if magic.compression_of(_head(file)) else _plain(file)
    except OSError as error:
        file.close()
        raise ImageError(file.path, f"cannot be read: {error.strerror or error}") from None
    except BaseException:
        file.close()
        raise


def _open_file(path: Path) -> RawFile:
    if path != STANDARD_INPUT:
        return RawFile(path)
    from callgate.disk.media.spool import open_input

    return open_input()


def _head(file: RawFile) -> bytes:
    return file.read(0, magic.HEAD_BYTES)


def _unpacked(file: RawFile, say: Callable[[str], None]) -> Image:
    """Unpack an image that is compressed, and open the image in it."""
    from callgate.disk.media.containers.compressed import unpack

    layers: list[str] = []
    warnings: list[str] = []
    try:
        while kind := magic.compression_of(_head(file)):
            if len(layers) == LAYERS:
                raise ImageError(file.path, f"is compressed more than {LAYERS} times", "unpack it")
            if file.size >= LONG:
                say(f"{file.path}: {kind} data, unpacked into a temporary file")
            file, more = unpack(file, kind)
            layers.append(kind)
            warnings += more
        image = _plain(file)
    except BaseException:
        file.close()
        raise
    image.warnings[:0] = warnings
    image.format = ", ".join(layers if image.format == "raw" else [*layers, image.format])
    return image


def _plain(file: RawFile) -> Image:
    """Open an image that is not compressed."""
    head = _head(file)
    if head.startswith(magic.QCOW2):
        from callgate.disk.media.containers.qcow2 import open_qcow2

        return _contained(file, "qcow2", open_qcow2)
    if head.startswith((magic.VMDK_SPARSE, magic.VMDK_DESCRIPTOR)):
        from callgate.disk.media.containers.vmdk import open_descriptor, open_vmdk

        return _contained(file, "VMDK", open_vmdk if head.startswith(magic.VMDK_SPARSE) else open_descriptor)
    if head.startswith(magic.VDI, magic.VDI_AT):
        from callgate.disk.media.containers.vdi import open_vdi

        return _contained(file, "VDI", open_vdi)
    if head.startswith(magic.VHD) or _has_footer(file):
        from callgate.disk.media.containers.vhd import open_vhd

        return _contained(file, "VHD", open_vhd)
    return ImageFile(file.path, file)


def _has_footer(file: RawFile) -> bool:
    """Whether a VHD's footer follows a disk."""
    footer = file.read(max(0, file.size - magic.VHD_FOOTER_BYTES), magic.VHD_FOOTER_BYTES)
    if not footer.startswith(magic.VHD):
        return False
    from callgate.disk.media.containers.vhd import is_footer

    return is_footer(footer)


def _contained(file: RawFile, kind: str, opener: Callable[[ContainerFile], Image]) -> Image:
    """Open the disk in a container; ImageError if the container is damaged."""
    from callgate.disk.media.containers.container import ContainerFile, DamagedError

    try:
        return opener(ContainerFile(file, kind))
    except DamagedError as error:
        raise ImageError(file.path, f"is a damaged {kind} image: {error}") from None
