"""Options of the commands that boot a machine: `boot`, `debug`; and `trace`, `map`, which run commands and report.

Each has one declaration, and so one name and one meaning, in all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

import click
from callgate.kernel.common.near_miss import nearest
from callgate.tools.session.sizes import SIZE, Number

if TYPE_CHECKING:
    from callgate.tools.session.observer import Observer
    from callgate.tools.session.options import SessionOptions

Command = TypeVar("Command", bound=Callable[..., object])
STANDARD_OUTPUT: Final = "-"


class MachineOptions(TypedDict):
    """What these options give; as `SessionOptions` takes them."""

    memory: int
    high_memory: int
    ide: bool
    stats: Path | None
    fuel: int | None
    unplug: tuple[tuple[int, int], ...]
    mount_deadline: int
    map_edges: bool
    fast_path: bool
    scratch: bool
    quiet: bool


class PlugTime(click.ParamType):  # type: ignore[type-arg]  # generic only in some versions of click
    """CLOCK or CLOCK:DISK."""

    name = "clock"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return (clock, disk)."""
        clock, _, disk = str(value).partition(":")
        if not clock.isascii() or not clock.isdigit() or not (disk or "0").isdigit():
            self.fail(f"{value!r} is not CLOCK or CLOCK:DISK, both decimal numbers", param, ctx)
        return int(clock), int(disk or 0)


PLUG_TIME = PlugTime()


OPTIONS: Final[dict[str, Callable[[Command], Command]]] = {
    "memory": click.option(
        "--memory", type=SIZE, default="64M", show_default=True, help="Low RAM, 16M to 768M in steps of 2M."
    ),
    "high_memory": click.option(
        "--high-memory",
        type=SIZE,
        default="256M",
        show_default=True,
        help="RAM above 4 GiB, for disk blocks: 1M to 64G.",
    ),
    "ide": click.option("--ide", is_flag=True, help="Attach disks to IDE (PIO: the CPU copies) instead of AHCI."),
    "stats": click.option(
        "--stats",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write the ledger as JSON ('-': standard output).",
    ),
    "record": click.option(
        "--record",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write what the run follows from, so that `callgate debug FILE` can repeat it.",
    ),
    "fuel": click.option("--fuel", type=Number(1), metavar="N", help="Stop after N guest instructions."),
    "unplug": click.option(
        *("--unplug-at", "unplug"),
        type=PLUG_TIME,
        multiple=True,
        metavar="CLOCK[:DISK]",
        help="Remove disk DISK (0) at CLOCK nanoseconds of virtual time; may be repeated.",
    ),
    "mount_deadline": click.option(
        "--mount-deadline",
        type=Number(1, 3_600_000),
        default=2000,
        show_default=True,
        metavar="MS",
        help="Give up a volume that its server has not mounted in MS milliseconds of virtual time.",
    ),
    "map_edges": click.option(
        "--map-edges",
        is_flag=True,
        help="Map pages that hold a neighbour's data as well, instead of copying them (leaks; to compare).",
    ),
    "fast_path": click.option(
        "--no-fast-path",
        "fast_path",
        is_flag=True,
        flag_value=False,
        default=True,
        help="Have policy decide each handoff of the CPU, also where there is nothing to choose (to compare).",
    ),
    "scratch": click.option(
        "--scratch",
        is_flag=True,
        help="Let programs write to files in memory. Images stay as they are: the changes end with the machine.",
    ),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="No boot log; faults and the end of a server are shown."),
}
"""The options of a machine by the names of their arguments."""
REPORTING: Final = (
    *("memory", "high_memory", "ide", "stats", "record", "fuel", "unplug", "mount_deadline", "map_edges"),
    *("fast_path", "scratch", "quiet"),
)


def machine_option(name: str) -> Callable[[Command], Command]:
    """Return the declaration of one option; KeyError."""
    return OPTIONS[name]


def machine_options(command: Command) -> Command:
    """Add the options to a command that runs commands and reports: those of `MachineOptions`, and `record`."""
    for name in reversed(REPORTING):
        command = OPTIONS[name](command)
    return command


def recordings(record: Path | None, options: SessionOptions) -> list[Observer]:
    """Return the observer that writes the recording of a session, if there is to be one."""
    if record is None:
        return []
    from callgate.tools.session.recorded import Recorded

    return [Recorded(record, options.unplug, demo=not options.images)]


def check_standard_output(output: Path | None, stats: Path | None) -> None:
    """click.UsageError if both go to standard output."""
    if str(output) == str(stats) == STANDARD_OUTPUT:
        raise click.UsageError("--stats -: standard output takes what -o writes; name a file for one of them")


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
