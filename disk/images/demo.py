"""The embedded demo image: two FAT volumes on an MBR disk, made at first use and kept in the cache."""

import hashlib
import os
import tempfile
from pathlib import Path

from callgate.disk.images.demo_partitions import IMAGE_SECTORS, boot_record
from callgate.disk.media.medium import ImageError


def demo_image(directory: Path) -> Path:
    """Return the path of the demo image in `directory`, making it if it is missing or damaged.

    If the directory cannot be written to, a temporary one of our own serves as well; ImageError if not.
    """
    name = f"demo-{fingerprint()}.img"
    path = directory / name
    if usable(path):
        return path
    from callgate.disk.images.demo_making import build_demo

    try:
        build_demo(path)
    except OSError:
        path = Path(tempfile.gettempdir()) / f"callgate-{os.getuid()}" / name
        if not usable(path):
            try:
                build_demo(path)
            except OSError as error:
                reason = f"the demo image cannot be written: {error.strerror}"
                raise ImageError(path, reason, "set XDG_CACHE_HOME to a directory with 64 MiB") from None
    return path


def fingerprint() -> str:
    """Return a digest of the sources that make the image."""
    state = hashlib.sha256()
    for source in (
        *sorted(Path(__file__).parent.glob("demo*.py")),
        *sorted((Path(__file__).parents[1] / "formatters").glob("*.py")),
    ):
        state.update(source.read_bytes())
    return state.hexdigest()[:16]


def usable(path: Path) -> bool:
    """Whether the image at `path` has the right size and boot record."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size == IMAGE_SECTORS * 512 and file.read(512) == boot_record()
    except OSError:
        return False
