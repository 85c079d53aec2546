"""`callgate map`: boot, run commands, and show who has which page of memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, Unpack

import click
from callgate.tools.cli.machine_options import (
    STANDARD_OUTPUT,
    MachineOptions,
    check_standard_output,
    format_of,
    machine_options,
    recordings,
)
from callgate.tools.inspection.image_argument import IMAGE

FORMATS: Final = ("txt", "svg", "html")
NOTHING: Final = "true"  # a command that does nothing
EPILOG = """\b
Examples:
  callgate map                              the demo image, when the shell has started
  callgate map their.img -c "cat README.TXT"
  callgate map their.img -o map.html        with a picture, for a browser
  callgate map their.img --fuel 20000       after 20,000 instructions, in the middle of the boot

\b
The map is that of the moment when the shell is about to exit, or of the end of the run.
Exit codes: as for callgate boot.
"""


@click.command("map", epilog=EPILOG)
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=IMAGE)
@click.option(*("-c", "--command", "commands"), metavar='"CMD; CMD"', multiple=True, help="Run shell commands before.")
@click.option(
    *("-o", "--output"),
    type=click.Path(path_type=Path),
    default=STANDARD_OUTPUT,
    metavar="OUT",
    help="File to write: .txt, .svg or .html; without it, text on standard output.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), help="The format, whatever the name ends with.")
@machine_options
def memory_map(
    images: tuple[Path, ...],
    commands: tuple[str, ...],
    output: Path,
    form: str | None,
    record: Path | None,
    **machine: Unpack[MachineOptions],
) -> int:
    """Boot IMAGEs (the demo image without one), and show the owner of each physical page and each address space.

    The guest's console goes to standard error.
    """
    from callgate.tools.pictures.memory.making import MapObserver
    from callgate.tools.session.options import SessionOptions
    from callgate.tools.session.session import Session

    if form is None:
        form = "txt" if str(output) == STANDARD_OUTPUT else format_of(output, FORMATS)
    check_standard_output(output, machine["stats"])
    options = SessionOptions(
        **machine,
        images=list(images),
        commands="; ".join(commands) or NOTHING,
    )
    observers = [MapObserver(form, output), *recordings(record, options)]
    return Session(options, sys.stdin.buffer, sys.stderr.buffer, observers, "standard error").run()
