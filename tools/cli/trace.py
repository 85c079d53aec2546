"""`callgate trace`: boot, run commands, and draw what happened."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Unpack

import click
from callgate.tools.cli.machine_options import STANDARD_OUTPUT, MachineOptions, format_of, machine_options
from callgate.tools.inspection.image_argument import IMAGE

if TYPE_CHECKING:
    from callgate.tools.session.session import Observer, SessionOptions

LINES: Final = {"txt": "text", "jsonl": "jsonl"}
FORMATS: Final = ("svg", "html", "perfetto-trace", *LINES)
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
@machine_options
def trace(
    images: tuple[Path, ...],
    commands: tuple[str, ...],
    output: Path,
    form: str | None,
    **machine: Unpack[MachineOptions],
) -> int:
    """Boot IMAGEs (the demo image without one), run commands, and draw what happened between client, kernel and server.

    The guest's console goes to standard error.
    """
    from callgate.tools.session.session import Session, SessionOptions

    form = form or format_of(output, FORMATS)
    refuse_terminal(output, form)
    command = "; ".join(commands)
    options = SessionOptions(
        **machine,
        images=list(images),
        commands=command,
        trace=output if form in LINES else None,
        trace_format="jsonl" if form == "jsonl" else "text",
        trace_option="-o",
    )
    observer = None if form in LINES else picture(form, output, options)
    return Session(options, sys.stdin.buffer, sys.stderr.buffer, observer, "standard error").run()


def picture(form: str, output: Path, options: SessionOptions) -> Observer:
    """Return what records the run and draws it."""
    from callgate.tools.pictures.making import FORMS, Picture
    from callgate.tools.pictures.records import Recording

    names = tuple(str(image) for image in options.images) or ("the demo image",)
    return Picture(FORMS[form], output, Recording(names, options.commands or ""))


def refuse_terminal(output: Path, form: str) -> None:
    """Refuse to write bytes that are no text to a terminal."""
    if str(output) == STANDARD_OUTPUT and form == "perfetto-trace" and sys.stdout.isatty():
        raise click.UsageError("-o -: a Perfetto trace is no text for a terminal; write it to a file or a pipe")
