"""`callgate disk`: look into images, and make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from callgate.tools.cli.copying import copy
from callgate.tools.cli.listing import list_directory
from callgate.tools.inspection.image_argument import IMAGE
from callgate.tools.session.sizes import SIZE

if TYPE_CHECKING:
    from callgate.disk.images.builder import FileSystem, Scheme

EXIT_IMAGE = 5

INSPECT_EPILOG = """\b
Examples:
  callgate disk inspect their.img
  callgate disk inspect their.img --json
  callgate disk inspect - < disk.qcow2

\b
Exit codes: 0 it has been looked at, whatever is wrong with it; 2 usage; 5 it is not a disk image.
"""

CREATE_EPILOG = """\b
Examples:
  callgate disk create out.img --from files
  callgate disk create out.img --from files --fs fat32 --gpt
  callgate disk create small.img --from files --fs fat12 --size 2M
  callgate disk create - --from files | gzip > out.img.gz
"""


@click.group()
def disk() -> None:
    """Inspect and create disk images, list them and copy files out of them."""


@disk.command(epilog=INSPECT_EPILOG, short_help="Show what is on a disk image, and what is wrong with it.")
@click.argument("image", type=IMAGE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(image: Path, as_json: bool) -> int:
    """Show partitions and file systems of IMAGE, and what is wrong with them.

    Of each volume that can be mounted, every file is looked at: how many of its pages the kernel can map as they are on
    the disk, and how many it has to put together from copies.  The image is only read; - is standard input.
    """
    from callgate.disk.media import ImageError
    from callgate.kernel.servers.packages import broken_servers
    from callgate.tools.inspection.report import as_dict, inspect_image, render

    try:
        report = inspect_image(image)
    except ImageError as error:
        click.echo(f"callgate: {error}", err=True)
        return EXIT_IMAGE
    for problem in broken_servers():
        click.echo(f"callgate: {problem}", err=True)
    click.echo(json.dumps(as_dict(report), indent=2) if as_json else render(report), nl=as_json)
    return 0


disk.add_command(copy)
disk.add_command(list_directory)


@disk.command(epilog=CREATE_EPILOG, short_help="Make an image from a directory.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--from", "source", metavar="DIR", required=True, type=click.Path(path_type=Path), help="What to put in.")
@click.option(
    "--fs", type=click.Choice(["fat12", "fat16", "fat32", "exfat"]), help="File system [the smallest FAT that fits]."
)
@click.option("--size", type=SIZE, help="Size of the image [as needed].")
@click.option("--mbr", is_flag=True, help="With a master boot record.")
@click.option("--gpt", is_flag=True, help="With a GUID partition table.")
@click.option("--label", default="CALLGATE", show_default=True, help="Volume label.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
def create(
    out: Path, source: Path, fs: FileSystem | None, size: int | None, mbr: bool, gpt: bool, label: str, force: bool
) -> int:
    """Make the image OUT from a directory, with data aligned to 4 KiB; '-' is standard output."""
    from callgate.disk.images.tree import BuildError
    from callgate.tools.cli.image_output import build_image

    if mbr and gpt:
        raise click.UsageError("--mbr and --gpt: a disk has one partition table")
    scheme: Scheme | None = "mbr" if mbr else "gpt" if gpt else None
    try:
        built = build_image(out, source, fs=fs, size=size, scheme=scheme, label=label, replace=force)
    except BuildError as error:
        click.echo(f"callgate: {error}", err=True)
        return 1
    for warning in built.warnings:
        click.echo(f"callgate: {warning}", err=True)
    return 0
