"""The command line: `callgate boot`, `debug`, `trace`, `map`, `explain`, `disk`, `asm`, `bench`, `fuzz`.

Data are written to standard output, all messages to standard error.  Exit codes: 0 ok, 1 the guest's or a
test's failure, 2 usage, 3 guest fault or panic, 4 out of fuel, 5 bad image, 130 interrupted.  Commands
are imported when they are run, so that `--help` and `boot` start quickly.
"""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

PROGRAM = "callgate"
SELDOM = (100_000, 10, 10)  # the garbage collector's thresholds: a boot makes half as many objects that stay
WRITING_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF)  # reading does not end with these
COMMANDS = {
    "boot": ("callgate.tools.cli.boot", "boot", "Boot disk images and use the shell."),
    "debug": ("callgate.tools.cli.debug", "debug", "Step through a run, forward and backward."),
    "trace": ("callgate.tools.cli.trace", "trace", "Draw what a run does: diagrams, a page to step through."),
    "map": ("callgate.tools.cli.map", "memory_map", "Show who has which page of memory, and each address space."),
    "explain": ("callgate.tools.cli.explain", "explain", "Say in words what a number or a name is."),
    "disk": ("callgate.tools.cli.disk", "disk", "Inspect, list, copy out of and create disk images."),
    "asm": ("callgate.tools.cli.asm", "asm", "Assemble a source file."),
    "fuzz": ("callgate.tools.cli.fuzz", "fuzz", "Look for inputs that break something."),
    "bench": ("callgate.tools.cli.bench", "bench", "Measure, in instructions and in time."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of a session."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None if there is none of that name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(entry[0]), entry[1])
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest a near miss for an unknown command."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from callgate.kernel.common.near_miss import nearest

            near = nearest(args[0], COMMANDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Commands: {', '.join(COMMANDS)}."
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in COMMANDS.items()])


EPILOG = """\b
Examples:
  callgate boot                              the demo image, interactively
  callgate boot their.img -c "dir; cat README.TXT"
  callgate disk inspect their.img
  callgate bench ipc
"""


def version() -> str:
    """Return the installed version."""
    from importlib.metadata import version as installed

    return installed("callgate")


def print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Print the version and stop."""
    if value and not ctx.resilient_parsing:
        click.echo(f"callgate {version()}")
        ctx.exit()


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=print_version,
    help="Show the version.",
)
def cli() -> None:
    """A 32-bit x86 microkernel on an emulated machine: boot it, count its IPC, test its assembly."""


def run(command: Callable[..., Any]) -> int:
    """Run a click command; return the exit code that the table above promises."""
    try:
        code = command(prog_name=PROGRAM, standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except RuntimeError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # in a `__set_name__`, while a class was made (3.11)
            return 130
        raise
    except BrokenPipeError:
        # The reader has closed the pipe (`| head`): not our failure, and no one is left to be told.
        sys.stdout = None
        return 0
    except OSError as error:
        return refused(error)
    return code if isinstance(code, int) else 0


def open_closed_streams() -> None:
    """Put the null device where the shell has closed standard input, output or error (`<&-`, `>&-`, `2>&-`).

    Else the first file that is opened, an image perhaps, would get the number and be taken for the console.  What
    should be standard output is opened for reading: to write to it is an error, as it was, and not a success.
    """
    for name, mode, flags in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))


def take_any_text() -> None:
    """Have bytes that are no text, and characters that standard output cannot show, be no errors.

    In most locales Python refuses both, in the middle of whatever is read or said: a file in another encoding that is
    piped in, or an ellipsis where the terminal knows ASCII or Latin-1.
    """
    for stream, refusing, errors in (
        (sys.stdin, ("strict",), "surrogateescape"),
        (sys.stdout, ("strict", "surrogateescape"), "backslashreplace"),
    ):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in refusing:
            stream.reconfigure(errors=errors)


def refused(error: OSError) -> int:
    """Report an error of the host: standard output on a full disk, a file that has gone; return 1."""
    place = f"{error.filename}: " if error.filename else ""
    if not place and error.errno in WRITING_ERRORS:  # errors of files that are written carry their names
        place = "standard output: cannot be written: "
    sys.stdout = None  # what it still holds would fail again
    print(f"{PROGRAM}: {place}{error.strerror or error}", file=sys.stderr)
    return 1


def main() -> None:
    """Entry point of the `callgate` script.

    What is imported stays to the end, and the garbage collector would look at it again and again, and three times more
    when the process ends, for cycles in memory that is given back anyway: 7 % and 15 % of a boot.
    """
    gc.set_threshold(*SELDOM)
    atexit.register(gc.freeze)
    open_closed_streams()
    take_any_text()
    code = run(cli)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = None
    except OSError as error:
        code = refused(error)
    sys.exit(code)


if __name__ == "__main__":
    main()
