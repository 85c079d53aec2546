"""`callgate trace`: boot, run commands, and draw what happened."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from callgate.tools.cli.boot import PLUG_TIME
from callgate.tools.inspection.image_argument import IMAGE
from callgate.tools.session.sizes import SIZE, Number

if TYPE_CHECKING:
    from callgate.tools.session.session import Observer, SessionOptions

LINES: Final = {"txt": "text", "jsonl": "jsonl"}
FORMATS: Final = ("svg", "html", "perfetto-trace", *LINES)
STANDARD_OUTPUT: Final = "-"
EPILOG = """\b
Examples:
  callgate trace -c "cat README.TXT" -o readme.html     step through the requests in a browser
  callgate trace their.img -c dir -o dir.svg            a sequence diagram
  callgate trace a.img -c "crc32 BIG" -o t.perfetto-trace   open it in ui.perfetto.dev
  callgate trace -c df -o - --format jsonl | jq .event

\b
Formats: svg, html, perfetto-trace; txt and jsonl are those of callgate boot --trace (docs/trace.md).
Exit codes: as for callgate boot. Ctrl-C ends the run, and what has happened until then is written.
"""


@click.command(epilog=EPILOG)
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=IMAGE)
@click.option(
    *("-c", "--command", "commands"),
    metavar='"CMD; CMD"',
    multiple=True,
    required=True,
    help="Run shell commands and exit; may be repeated.",
)
@click.option(
    *("-o", "--output"),
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT",
    help="File to write, of the format that its name ends with ('-': standard output).",
)
@click.option("--format", "form", type=click.Choice(FORMATS), help="The format, whatever the name ends with.")
@click.option("--memory", type=SIZE, default="64M", show_default=True, help="Low RAM, 16M to 768M in steps of 2M.")
@click.option(
    "--high-memory", type=SIZE, default="256M", show_default=True, help="RAM above 4 GiB, for disk blocks: 1M to 64G."
)
@click.option("--ide", is_flag=True, help="Attach disks to IDE (PIO: the CPU copies) instead of AHCI.")
@click.option("--fuel", type=Number(min=1), metavar="N", help="Stop after N guest instructions.")
@click.option(
    *("--unplug-at", "unplug"),
    type=PLUG_TIME,
    multiple=True,
    metavar="CLOCK[:DISK]",
    help="Remove disk DISK (0) at CLOCK nanoseconds of virtual time; may be repeated.",
)
@click.option("--scratch", is_flag=True, help="Let programs write to files in memory. Images stay as they are.")
@click.option("-q", "--quiet", is_flag=True, help="No boot log; faults and the end of a server are shown.")
def trace(
    images: tuple[Path, ...],
    commands: tuple[str, ...],
    output: Path,
    form: str | None,
    memory: int,
    high_memory: int,
    ide: bool,
    fuel: int | None,
    unplug: tuple[tuple[int, int], ...],
    scratch: bool,
    quiet: bool,
) -> int:
    """Boot IMAGEs (the demo image without one), run commands, and draw what happened between client, kernel and server.

    The guest's console goes to standard error.
    """
    from callgate.tools.session.session import Session, SessionOptions

    form = form or format_of(output)
    refuse_terminal(output, form)
    command = "; ".join(commands)
    options = SessionOptions(
        images=list(images),
        commands=command,
        memory=memory,
        high_memory=high_memory,
        ide=ide,
        trace=output if form in LINES else None,
        trace_format="jsonl" if form == "jsonl" else "text",
        trace_option="-o",
        fuel=fuel,
        scratch=scratch,
        unplug=list(unplug),
        quiet=quiet,
    )
    observer = None if form in LINES else picture(form, output, options)
    return Session(options, sys.stdin.buffer, sys.stderr.buffer, observer, "standard error").run()


def picture(form: str, output: Path, options: SessionOptions) -> Observer:
    """Return what records the run and draws it."""
    from callgate.tools.pictures.making import FORMS, Picture
    from callgate.tools.pictures.records import Recording

    names = tuple(str(image) for image in options.images) or ("the demo image",)
    return Picture(FORMS[form], output, Recording(names, options.commands or ""))


def format_of(output: Path) -> str:
    """Return the format that a file's name asks for; click.BadParameter with the likeliest if there is none."""
    from callgate.kernel.common.near_miss import nearest

    if str(output) == STANDARD_OUTPUT:
        raise click.UsageError(f"-o -: say with --format which of {', '.join(FORMATS)} is to be written")
    suffix = output.suffix.removeprefix(".")
    if suffix in FORMATS:
        return suffix
    near = nearest(suffix, FORMATS, 1)
    hint = f"did you mean {output.with_suffix('.' + near[0])}? Formats: " if near else "end it with one of "
    said = f"{output}: no format is called {suffix!r}" if suffix else f"{output}: the name does not say which format"
    raise click.BadParameter(f"{said}; {hint}{', '.join(FORMATS)}; or give --format", param_hint="-o")


def refuse_terminal(output: Path, form: str) -> None:
    """Refuse to write bytes that are no text to a terminal."""
    if str(output) == STANDARD_OUTPUT and form == "perfetto-trace" and sys.stdout.isatty():
        raise click.UsageError("-o -: a Perfetto trace is no text for a terminal; write it to a file or a pipe")
