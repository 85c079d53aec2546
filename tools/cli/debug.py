"""`callgate debug`: step through a run of disk images, or of a recording, forward and backward."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Unpack

import click
from callgate.tools.cli.debugging.systems import (
    OUTLET,
    Machine,
    begun,
    launched,
    made,
    printed,
    recorded,
    recording_of,
)
from callgate.tools.cli.machine_options import machine_option
from callgate.tools.inspection.image_argument import IMAGE
from callgate.tools.session.sizes import SIZE, Number
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callgate.tools.debugger.workbench.workbench import Workbench
    from callgate.tools.recording import Recording

EPILOG = """\b
Examples:
  callgate debug                                  the demo image; the guest waits before its first instruction
  callgate debug their.img -c "cat README.TXT"
  callgate boot their.img --record run.cgr        record a run, and
  callgate debug run.cgr                          step through it, there or on another machine
  callgate debug run.cgr elsewhere/their.img      with the image that it was recorded with in another place
  callgate debug recordings/test_x.py-test_it.cgr where a test failed: pytest --asm-record writes it
  callgate debug "test_double.asm::a number is doubled"   a case of docs/testing.md, from its call on
  callgate debug -e "until ipc.reply" -e message -e "back phase" -e quit
  callgate debug --plain                          lines instead of the screen of panes
  callgate debug --dap                            for an editor that starts it: docs/editors.md
  callgate debug --vsix callgate.vsix             Visual Studio Code is one: code --install-extension callgate.vsix

\b
On a terminal it opens a screen of panes: ? shows its keys, and : takes a command.  --plain, -e
and -x take lines, and so does a terminal that cannot show the screen.  Commands: step, next,
finish, continue, break, watch, registers, x, slots, message, walk, events; back step, back next,
back out, back continue, back phase, goto; why, who, when, list requests; py; help says more.

\b
Exit codes: 0; 2 usage, or a command of -e or -x that was not carried out; 5 an image, a
recording or a case that cannot be used; with --dap-port 3, a port that cannot be used.
"""
EXIT_USAGE, EXIT_IMAGE = 2, 5
MACHINE: Final = ("memory", "high_memory", "ide", "unplug", "mount_deadline", "map_edges", "fast_path", "scratch")


@click.command(epilog=EPILOG)
@click.argument("files", metavar="[IMAGE|RECORDING|CASE]...", nargs=-1, type=IMAGE)
@click.option(
    "-c", "--command", "commands", metavar='"CMD; CMD"', multiple=True, help="Commands of the guest's shell, as boot's."
)
@click.option("-e", "--execute", "lines", metavar="COMMAND", multiple=True, help="Carry out a command of the debugger.")
@click.option(
    "-x", "--script", "scripts", type=click.Path(path_type=Path), multiple=True, help="Carry out the lines of a file."
)
@click.option("--plain", is_flag=True, help="A prompt for lines, and no screen: for scripts and screen readers.")
@machine_option("memory")
@machine_option("high_memory")
@machine_option("ide")
@machine_option("unplug")
@machine_option("mount_deadline")
@machine_option("map_edges")
@machine_option("fast_path")
@machine_option("scratch")
@click.option(
    "--history-budget",
    "budget",
    type=SIZE,
    default="256M",
    show_default=True,
    help="Memory for going back; 8M at least.  With less, going far back takes longer.",
)
@click.option(
    "--dap",
    is_flag=True,
    help="Serve an editor by the Debug Adapter Protocol on standard input and output (docs/editors.md).",
)
@click.option("--dap-port", type=Number(0, 65535), metavar="PORT", help="The same on a port of 127.0.0.1.")
@click.option(
    "--vsix",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the extension that has Visual Studio Code start --dap, and exit.",
)
def debug(
    files: tuple[Path, ...],
    commands: tuple[str, ...],
    lines: tuple[str, ...],
    scripts: tuple[Path, ...],
    plain: bool,
    budget: int,
    unplug: tuple[tuple[int, int], ...],
    dap: bool,
    dap_port: int | None,
    vsix: Path | None,
    **machine: Unpack[Machine],
) -> int:
    """Step through a run of disk IMAGEs, of a RECORDING, or of a CASE of a test, forward and backward.

    The guest waits before its first instruction. What it prints is on standard output, between the debugger's lines.
    A RECORDING is one of `callgate boot --record`, or of a test that failed (`pytest --asm-record`), where a test
    without a kernel stands just before the failure. A CASE is FILE.asm::TITLE, or FILE.asm if it has one case only.
    """
    from callgate.disk.media import ImageError
    from callgate.tools.debugger.workbench.workbench import Workbench
    from callgate.tools.recording import RecordingError

    if vsix is not None:
        return extended(vsix)
    if dap or dap_port is not None:
        from callgate.tools.cli.debugging.adapter import serve

        if commands or lines or scripts:
            raise click.UsageError("--dap: no -c, -e or -x: the editor's launch request has commands and execute")
        check(None, (), budget)
        return serve(partial(launched, files, budget, unplug, machine), dap_port)
    recording = recording_in(files)
    check(recording, commands, budget)
    try:
        system = recorded(recording, files[1:]) if recording is not None else made(files, commands, unplug, machine)
    except (ImageError, RecordingError) as error:
        print(f"callgate: {error}", file=sys.stderr)
        return EXIT_IMAGE
    with system:
        bench = Workbench(system, begun(system, recording, budget))
        try:
            if not opened(bench, files):
                return EXIT_IMAGE
            if not (plain or lines or scripts) and shown(bench, ", ".join(path.name for path in files) or "demo image"):
                return 0
            return talked(bench, lines, scripts)
        finally:
            bench.close()


def opened(bench: Workbench, files: Sequence[Path]) -> bool:
    """Go to where a recording is to be shown from; False, which is said, if its run does not come there."""
    from callgate.tools.debugger.workbench.failure import CommandError
    from callgate.tools.debugger.workbench.workbench import OPENING_INTERRUPTED

    try:
        if not bench.open():
            print(f"callgate: {files[0]}: {OPENING_INTERRUPTED}", file=sys.stderr)
    except CommandError as error:
        print(f"callgate: {files[0]}: {error}", file=sys.stderr)
        return False
    return True


def shown(bench: Workbench, title: str) -> bool:
    """Show the screen until it is left; False where there can be none."""
    from callgate.tools.debugger.screen import opening

    if opening.unusable():
        return False
    try:
        app = opening.made(bench, title)
    except ImportError as error:
        print(f"callgate: no screen, since Textual cannot be used ({error}); lines follow", file=sys.stderr)
        return False
    OUTLET.to = app.print_from_guest
    try:
        opening.open_screen(app)
    finally:
        OUTLET.to = printed
    return True


def talked(bench: Workbench, lines: Sequence[str], scripts: Sequence[Path]) -> int:
    """Carry out lines, and read more; return the exit code."""
    from callgate.tools.debugger.commands.prompt import ScriptError
    from callgate.tools.debugger.terminal.conversation import converse
    from callgate.tools.debugger.workbench.failure import CommandError

    try:
        converse(bench, lines, scripts)
    except (ScriptError, CommandError) as error:
        print(f"callgate: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        sys.stdout = None  # the reader has closed the pipe (`| head`): what it still holds would fail again
    return 0


def recording_in(files: Sequence[Path]) -> Recording | None:
    """Return the recording that the first file is or has, None if it is an image; SystemExit with the reason."""
    from callgate.tools.recording import RecordingError

    try:
        return recording_of(files)
    except RecordingError as error:
        print(f"callgate: {error}", file=sys.stderr)
        raise SystemExit(EXIT_IMAGE) from None


def extended(vsix: Path) -> int:
    """Write the extension for Visual Studio Code; return the exit code, or click.UsageError."""
    from callgate.tools.cli.debugging.adapter import write_extension

    context = click.get_current_context()
    given = [name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given != ["vsix"]:
        raise click.UsageError("--vsix: nothing else is given with it")
    if vsix.suffix != ".vsix":
        named = vsix.with_suffix(".vsix") if vsix.name else "callgate.vsix"
        raise click.UsageError(f"--vsix: Visual Studio Code wants a name that ends in .vsix; give --vsix {named}")
    return write_extension(vsix)


def check(recording: Recording | None, commands: Sequence[str], budget: int) -> None:
    """click.UsageError for options that contradict each other."""
    from callgate.tools.debugger.history import LEAST

    if recording is not None and commands:
        raise click.UsageError("-c: a recording has its own commands; type more at the prompt: type LINE")
    context = click.get_current_context()
    given = [name for name in MACHINE if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if recording is not None and given:
        raise click.UsageError(f"--{given[0].replace('_', '-')}: a recording has its own options")
    if budget < LEAST:
        raise click.UsageError(f"--history-budget: a history needs at least {LEAST >> 20}M")
