"""An image named on the command line: a file, or `-` for standard input."""

from pathlib import Path
from typing import Any

import click
from callgate.disk.open_image import STANDARD_INPUT


class ImageArgument(click.ParamType):  # type: ignore[type-arg]  # generic only in some versions of click
    """A path; `-` alone is standard input, and a file of that name is `./-`."""

    name = "image"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        path = Path(value)
        return path.absolute() if path == STANDARD_INPUT and str(value) != "-" else path


IMAGE = ImageArgument()
