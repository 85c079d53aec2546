"""An image named on the command line: a file, or `-` or `/dev/stdin` for standard input."""

from pathlib import Path
from typing import Any, Final

import click

DEVICE: Final = "/dev/stdin"


class ImageArgument(click.ParamType):  # type: ignore[type-arg]  # generic only in some versions of click
    """A path; `-` alone is standard input, and a file of that name is `./-`."""

    name = "image"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        return image_path(str(value))


class PathInImageCommand(click.Command):
    """A command that takes IMAGE:PATH as an argument, of which `-:PATH` would look like an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments with standard input called by its other name where a path follows."""
        return super().parse_args(ctx, [f"{DEVICE}{text[1:]}" if text.startswith("-:") else text for text in args])


def image_path(text: str) -> Path:
    """Return the path of an image as it is typed: a `Path` would take `./-` for `-`."""
    from callgate.disk.media.opening import STANDARD_INPUT

    path = Path(text)
    if text == DEVICE:
        return STANDARD_INPUT
    return path.absolute() if path == STANDARD_INPUT and text != "-" else path


IMAGE = ImageArgument()
