"""Options of the commands that boot a machine, run commands on it, and report: `trace`, `map`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypedDict, TypeVar

import click
from callgate.kernel.common.near_miss import nearest
from callgate.tools.cli.boot import PLUG_TIME
from callgate.tools.session.sizes import SIZE, Number

Command = TypeVar("Command", bound=Callable[..., object])
STANDARD_OUTPUT: Final = "-"


class MachineOptions(TypedDict):
    """What these options give; as `SessionOptions` takes them."""

    memory: int
    high_memory: int
    ide: bool
    fuel: int | None
    unplug: tuple[tuple[int, int], ...]
    scratch: bool
    quiet: bool


OPTIONS: Final = (
    click.option("--memory", type=SIZE, default="64M", show_default=True, help="Low RAM, 16M to 768M in steps of 2M."),
    click.option(
        "--high-memory",
        type=SIZE,
        default="256M",
        show_default=True,
        help="RAM above 4 GiB, for disk blocks: 1M to 64G.",
    ),
    click.option("--ide", is_flag=True, help="Attach disks to IDE (PIO: the CPU copies) instead of AHCI."),
    click.option("--fuel", type=Number(min=1), metavar="N", help="Stop after N guest instructions."),
    click.option(
        *("--unplug-at", "unplug"),
        type=PLUG_TIME,
        multiple=True,
        metavar="CLOCK[:DISK]",
        help="Remove disk DISK (0) at CLOCK nanoseconds of virtual time; may be repeated.",
    ),
    click.option("--scratch", is_flag=True, help="Let programs write to files in memory. Images stay as they are."),
    click.option("-q", "--quiet", is_flag=True, help="No boot log; faults and the end of a server are shown."),
)


def machine_options(command: Command) -> Command:
    """Add the options to a command, in this order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def format_of(output: Path, formats: tuple[str, ...]) -> str:
    """Return the format that a file's name asks for; click.BadParameter with the likeliest if there is none."""
    if str(output) == STANDARD_OUTPUT:
        raise click.UsageError(f"-o -: say with --format which of {', '.join(formats)} is to be written")
    suffix = output.suffix.removeprefix(".")
    if suffix in formats:
        return suffix
    near = nearest(suffix, formats, 1)
    hint = f"did you mean {output.with_suffix('.' + near[0])}? Formats: " if near else "end it with one of "
    said = f"{output}: no format is called {suffix!r}" if suffix else f"{output}: the name does not say which format"
    raise click.BadParameter(f"{said}; {hint}{', '.join(formats)}; or give --format", param_hint="-o")
