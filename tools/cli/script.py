"""The `callgate` script: Ctrl-C ends it without a word from its first line on, not only when a command has begun.

What the command line imports takes most of a short command.  Python's own start, before this, is not ours to guard.
"""

# The first statement, and of modules that are built into Python: each import before it would be an unguarded moment.
import _signal  # type: ignore[import-not-found]
import os
import sys

EXIT_INTERRUPTED = 130


def leave(_signal: int, _frame: object) -> None:
    """End the process at once: nothing has begun that would have to be finished.

    An exception would do if it came up to here: one in a `__del__`, a callback or a lock of importlib does not.
    """
    os._exit(EXIT_INTERRUPTED)


GUARDED = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler  # and not ignored, as under nohup
if GUARDED:
    _signal.signal(_signal.SIGINT, leave)


def main() -> None:
    """Import the command line and run it."""
    from callgate.tools.cli.main import main as begin

    if GUARDED:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    try:
        begin()
    except KeyboardInterrupt:  # between two statements that guard themselves
        sys.exit(EXIT_INTERRUPTED)
