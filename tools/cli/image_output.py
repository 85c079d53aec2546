"""Where `callgate disk create` puts an image: in a file, or on standard output."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final, TypedDict, Unpack

import click
from callgate.disk.images.builder import Built, FileSystem, Scheme, create_image
from callgate.tools.session.outputs import STANDARD_OUTPUT

PIECE: Final = 1 << 20  # bytes copied at once


class Options(TypedDict):
    """The arguments of `create_image`."""

    fs: FileSystem | None
    size: int | None
    scheme: Scheme | None
    label: str


def build_image(out: Path, source: Path, *, replace: bool, **options: Unpack[Options]) -> Built:
    """Build an image as `create_image` does, or write it to standard output if `out` is `-`; BuildError."""
    if str(out) != STANDARD_OUTPUT:
        return create_image(out, source, replace=replace, **options)
    if sys.stdout.isatty():
        raise click.UsageError("-: standard output is a terminal; write the image to a file or a pipe")
    with tempfile.TemporaryDirectory(prefix="callgate-") as folder:
        built = create_image(Path(folder) / "image", source, **options)
        with built.path.open("rb") as image:
            shutil.copyfileobj(image, sys.stdout.buffer, PIECE)
        sys.stdout.buffer.flush()
    return built
