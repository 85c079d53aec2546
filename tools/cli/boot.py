"""`callgate boot`: boot disk images, connect the guest's console, report how it ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Unpack

import click
from callgate.tools.cli.machine_options import MachineOptions, machine_option, recordings
from callgate.tools.inspection.image_argument import IMAGE
from callgate.tools.session.sizes import SIZE
from click.core import ParameterSource

if TYPE_CHECKING:
    from callgate.tools.debugger.gdb.server import GdbServer
    from callgate.tools.session.trace import TraceFormat

EPILOG = """\b
Examples:
  callgate boot                                    the demo image, interactively
  callgate boot their.img -c "dir; cat README.TXT" run commands, exit with the last one's status
  callgate boot a.img b.img                        two disks: /d0… and /d1…
  echo "dir /rom" | callgate boot                  commands from a pipe
  callgate boot their.img -c df --stats ledger.json
  curl URL | callgate boot - -c dir                an image from a pipe; commands by -c
  callgate boot a.img --unplug-at 400000 -c "cat BIG" take the disk away in the middle
  callgate boot their.img --gdb 1234               wait for gdb: target remote :1234
  gdb -ex "target remote | callgate boot their.img -c dir --gdb -"

\b
Exit codes: the last guest command's (0 to 125; 127 not found, 139 ended by a fault); 1 guest
failure; 2 usage; 3 triple fault or panic; 4 out of fuel; 5 bad image, or no volume that can
be used; 130 interrupted.
"""


@click.command(epilog=EPILOG)
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=IMAGE)
@click.option(
    "-c",
    "--command",
    "commands",
    metavar='"CMD; CMD"',
    multiple=True,
    help="Run shell commands and exit; may be repeated.",
)
@machine_option("memory")
@machine_option("high_memory")
@machine_option("ide")
@machine_option("stats")
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write every event as a line ('-': standard output).",
)
@click.option(
    "--trace-format",
    type=click.Choice(["text", "jsonl"]),
    default="text",
    show_default=True,
    help="Lines of text, or a JSON object a line.",
)
@machine_option("record")
@machine_option("fuel")
@machine_option("unplug")
@machine_option("mount_deadline")
@machine_option("map_edges")
@machine_option("fast_path")
@machine_option("scratch")
@click.option(
    "--history",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep the lines of interactive sessions in FILE [~/.local/state/callgate/history].",
)
@click.option("--no-history", is_flag=True, help="Keep no lines, and show none of earlier sessions.")
@click.option(
    "--gdb",
    metavar="[HOST:]PORT",
    help="Wait for gdb before the first instruction, on a port of this host (0: any that is free), or '-': on standard "
    "input and output; the guest's console then writes to standard error. docs/gdb.md.",
)
@click.option(
    "--history-budget",
    "budget",
    type=SIZE,
    default="256M",
    show_default=True,
    help="With --gdb, memory for going back; 8M at least.  With less, going far back takes longer.",
)
@machine_option("quiet")
def boot(
    images: tuple[Path, ...],
    commands: tuple[str, ...],
    trace: Path | None,
    trace_format: TraceFormat,
    record: Path | None,
    history: Path | None,
    no_history: bool,
    gdb: str | None,
    budget: int,
    **machine: Unpack[MachineOptions],
) -> int:
    """Boot IMAGEs (disk images, opened read-only); without one, the embedded demo image.

    An IMAGE is raw, qcow2, VHD, VMDK or VDI, or compressed by gzip, xz, bzip2 or zstd; - is standard input.
    The guest's console is standard input and output, byte for byte; the boot log is on standard error.
    """
    from callgate.tools.session.options import SessionOptions
    from callgate.tools.session.session import Session

    stats = machine["stats"]
    refuse_contradictions(gdb, history, no_history, trace, stats, record)
    options = SessionOptions(
        images=list(images),
        commands="; ".join(commands) if commands else None,
        trace=trace,
        trace_format=trace_format,
        history=history,
        keep_history=not no_history,
        driver=gdb_server(gdb, budget, images, (stats, trace), machine["fuel"]) if gdb is not None else None,
        **machine,
    )
    return Session(options, *console(gdb), recordings(record, options)).run()


def console(gdb: str | None) -> tuple[BinaryIO, BinaryIO]:
    """Return the guest's console: without input, and on standard error, if gdb has standard input and output."""
    if gdb == "-":
        return Path(os.devnull).open("rb"), sys.stderr.buffer
    return sys.stdin.buffer, sys.stdout.buffer


def gdb_server(
    text: str, budget: int, images: tuple[Path, ...], reports: tuple[Path | None, ...], fuel: int | None
) -> GdbServer:
    """Return the server for `--gdb text`, which listens already; UsageError."""
    from callgate.tools.debugger.gdb.server import AddressRefused, GdbServer, read_address
    from callgate.tools.debugger.history import LEAST

    if budget < LEAST:
        raise click.UsageError(f"--history-budget: a history needs at least {LEAST >> 20}M")
    if fuel is not None:
        raise click.UsageError("--fuel and --gdb contradict each other: with gdb, it is gdb that stops the machine")
    if text == "-" and any(str(path) == "-" for path in (*images, *reports)):
        raise click.UsageError("--gdb -: gdb talks through standard input and output; nothing else can use them")
    try:
        return GdbServer(read_address(text), lambda line: click.echo(f"callgate: {line}", err=True), budget)
    except (ValueError, AddressRefused) as error:
        raise click.UsageError(str(error)) from None


def refuse_contradictions(
    gdb: str | None, history: Path | None, no_history: bool, trace: Path | None, *reports: Path | None
) -> None:
    """Refuse options that contradict each other, or of which one would be ignored."""
    parameters = click.get_current_context()
    if gdb is None and parameters.get_parameter_source("budget") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--history-budget is for going back in gdb; give --gdb [HOST:]PORT as well")
    if history is not None and (no_history or str(history) == "-"):
        raise click.UsageError("--history names the file that lines are read from and kept in: no '-', no --no-history")
    if history is not None and history in (trace, *reports):
        raise click.UsageError(f"--history {history}: is also the file of a report; name another file")
    source = parameters.get_parameter_source("trace_format")
    if trace is None and source is ParameterSource.COMMANDLINE:
        raise click.UsageError("--trace-format says how a trace is written; give --trace FILE as well")
