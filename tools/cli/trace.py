"""`callgate trace`: boot, run commands, and draw what happened."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Unpack

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
from callgate.tools.session.sizes import Number

if TYPE_CHECKING:
    from callgate.tools.session.observer import Observer
    from callgate.tools.session.options import SessionOptions

LINES: Final = {"txt": "text", "jsonl": "jsonl"}
FORMATS: Final = ("svg", "html", "perfetto-trace", *LINES)
EPILOG = """\b
Examples:
  callgate trace -c "cat README.TXT" -o readme.html     step through the requests in a browser
  callgate trace their.img -c dir -o dir.svg            a sequence diagram
  callgate trace -c df --request 6 -o free-space.svg    of one request
  callgate trace a.img -c "crc32 BIG" -o t.perfetto-trace   open it in ui.perfetto.dev
  callgate trace -c df -o - --format jsonl | jq .event
  callgate trace -c "dir; ls docs" --flame dir.svg      where the instructions go
  callgate trace -c df -o df.svg --stats df.json        with the ledger of the same run

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
    metavar="OUT",
    help="File to write, of the format that its name ends with ('-': standard output).",
)
@click.option("--format", "form", type=click.Choice(FORMATS), help="The format, whatever the name ends with.")
@click.option(
    "--request",
    type=Number(1, hint="the whole diagram, which -o OUT.svg draws without --request, has them as #N"),
    metavar="N",
    help="Draw only the request of this number (#N in the whole diagram), as .svg.",
)
@click.option(
    "--flame",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Count every instruction by routine: FILE.svg is a flame graph, FILE.speedscope.json for speedscope.app.",
)
@machine_options
def trace(
    images: tuple[Path, ...],
    commands: tuple[str, ...],
    output: Path | None,
    form: str | None,
    request: int | None,
    flame: Path | None,
    record: Path | None,
    **machine: Unpack[MachineOptions],
) -> int:
    """Boot IMAGEs (the demo image without one), run commands, and draw what happened between client, kernel and server.

    The guest's console goes to standard error.
    """
    from callgate.tools.session.options import SessionOptions
    from callgate.tools.session.session import Session

    if output is None and form is not None:
        raise click.UsageError("--format says how -o is written; give -o OUT as well")
    form = None if output is None else form or format_of(output, FORMATS)
    check_outputs(output, form, flame)
    check_standard_output(output, machine["stats"])
    if request is not None and form != "svg":
        raise click.UsageError("--request N draws one request as a sequence diagram; give -o OUT.svg")
    options = SessionOptions(
        **machine,
        images=list(images),
        commands="; ".join(commands),
        trace=output if form in LINES else None,
        trace_format="jsonl" if form == "jsonl" else "text",
        trace_option="-o",
    )
    observers = [] if output is None or form is None or form in LINES else [picture(form, output, options, request)]
    if flame is not None:
        observers.append(flames(flame, options))
    observers += recordings(record, options)
    return Session(options, sys.stdin.buffer, sys.stderr.buffer, observers, "standard error").run()


def flames(path: Path, options: SessionOptions) -> Observer:
    """Return what counts the run by routines; click.BadParameter for a name of another format."""
    from callgate.kernel.common.near_miss import nearest
    from callgate.tools.pictures.flame.making import FORMS, Flame

    ending = next((ending for ending in FORMS if path.name.endswith(ending)), None)
    if ending is None:
        near = nearest(path.suffix, [*FORMS, ".json"], 1)
        wanted = {".svg": ".svg", ".json": ".speedscope.json", ".speedscope.json": ".speedscope.json"}
        hint = f"did you mean {path.with_suffix(wanted[near[0]])}?" if near else f"end it with {' or '.join(FORMS)}"
        raise click.BadParameter(f"{path}: the name does not say which format; {hint}", param_hint="--flame")
    return Flame(ending, path, options.commands or "")


def picture(form: str, output: Path, options: SessionOptions, request: int | None) -> Observer:
    """Return what records the run and draws it, or one request of it."""
    from callgate.tools.pictures.making import FORMS, Picture
    from callgate.tools.pictures.records import RunRecord

    names = tuple(str(image) for image in options.images) or ("the demo image",)
    return Picture(FORMS[form], output, RunRecord(names, options.commands or ""), request)


def check_outputs(output: Path | None, form: str | None, flame: Path | None) -> None:
    """Refuse a run without a picture, and one whose picture is no text for the terminal that it would go to."""
    if output is None and flame is None:
        raise click.UsageError("nothing is to be written: give -o OUT, --flame FILE, or both")
    if str(output) == STANDARD_OUTPUT and form == "perfetto-trace" and sys.stdout.isatty():
        raise click.UsageError("-o -: a Perfetto trace is no text for a terminal; write it to a file or a pipe")
