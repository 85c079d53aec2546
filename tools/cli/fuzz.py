"""`callgate fuzz`: look for inputs that break something."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click
from callgate.tools.fuzz.kinds import KINDS, Kind
from callgate.tools.inspection.image_argument import IMAGE
from callgate.tools.session.sizes import Number

EXIT_FOUND = 1
EXIT_IMAGE = 5

EPILOG = """\b
Examples:
  callgate fuzz images --fs fat16 --count 2000
  callgate fuzz images --image cd.iso --count 500 --seed 7000
  callgate fuzz images --fs fat32 --count 1 --seed 4711 --boot   one mutant again, on a booted system
"""


@click.group()
def fuzz() -> None:
    """Look for inputs that break something."""


@fuzz.command(epilog=EPILOG)
@click.option("--fs", type=click.Choice(KINDS), help="Damage a small volume of this kind.")
@click.option("--image", type=IMAGE, help="Damage a copy of this image (one volume, no partitions).")
@click.option("--count", type=Number(1), metavar="N", default=1000, show_default=True, help="How many mutants.")
@click.option(
    "--seed",
    type=Number(0),
    metavar="N",
    default=0,
    show_default=True,
    help="Seed of the first one, then one more each.",
)
@click.option("--boot", "booted", is_flag=True, help="Boot the system on each, besides.")
def images(fs: Kind | None, image: Path | None, count: int, seed: int, booted: bool) -> int:
    """Damage a volume in many ways and have its server look at each.

    One of --fs and --image says which volume.  The image itself stays as it is.

    A finding is a server that raises, hangs, names sectors outside its volume, keeps what it was lent, or no longer
    reads a file that the damage has not come near; it is printed with the command that shows it again, and the exit
    status is 1.
    """
    from callgate.disk.media import ImageError
    from callgate.tools.fuzz.images import Outcome
    from callgate.tools.fuzz.images import fuzz as run
    from callgate.tools.fuzz.volumes import sound_image

    if (fs is None) == (image is None):
        raise click.UsageError("give either --fs or --image: which volume is to be damaged")
    try:
        content = _volume(image) if image is not None else sound_image(fs)  # type: ignore[arg-type]  # one of both
    except (OSError, ImageError) as error:
        click.echo(f"callgate: {error}", err=True)
        return EXIT_IMAGE
    outcome = Outcome()
    what = f"--image {shlex.quote(str(image))}" if image is not None else f"--fs {fs}"
    for number, finding in run(content, range(seed, seed + count), outcome, booted=booted):
        if number is None:
            click.echo(f"without damage: {finding}")
        elif finding is not None:
            click.echo(f"seed {number}: {finding}")
            click.echo(f"  again: callgate fuzz images {what} --count 1 --seed {number}{' --boot' if booted else ''}")
        elif sys.stderr.isatty() and number % 100 == 0:
            click.echo(f"\r{number - seed + 1} of {count}", nl=False, err=True)
    click.echo(
        f"{outcome.mutants} mutants: {outcome.refused} refused, {outcome.damaged} read in part, {outcome.sound} "
        f"read in full, {outcome.findings} findings; {outcome.witnesses} files that were not damaged read as before"
    )
    return EXIT_FOUND if outcome.findings else 0


def _volume(image: Path) -> bytes:
    """Return a volume, zeros to a whole sector included; ImageError if no server recognises it."""
    from callgate.disk.media import ImageError, open_image
    from callgate.kernel.abi.memory import SECTOR_SIZE
    from callgate.kernel.servers.packages import installed_servers
    from callgate.tools.inspection.mounting import read_layout
    from callgate.tools.inspection.volume_walk import claimant, read_medium

    medium = open_image(image)
    try:
        if claimant(medium, 0, medium.sector_count) is not None:
            return read_medium(medium, 0, medium.sector_count)
        layout = read_layout(medium, installed_servers())
    finally:
        medium.close()
    if layout.scheme == "none" or not layout.partitions:
        raise ImageError(image, "no file system that a server knows begins here")
    partition = layout.partitions[0]
    if medium.format != "raw":
        raise ImageError(image, "has partitions, and --image wants one volume alone", "make a raw image of it first")
    place = f"bs={SECTOR_SIZE} skip={partition.start} count={partition.sectors}"
    cut = f"cut partition {partition.number} out: dd if={shlex.quote(str(image))} of=volume.img {place}"
    raise ImageError(image, "has partitions, and --image wants one volume alone", cut)
