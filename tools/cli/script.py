"""The `callgate` script: Ctrl-C ends it without a word from its first line on, not only when a command has begun.

What the command line imports takes most of a short command.  Python's own start, before this, is not ours to guard.
"""

import sys


def main() -> None:
    """Import the command line and run it."""
    try:
        from callgate.tools.cli.main import main as begin
    except KeyboardInterrupt:
        sys.exit(130)
    begin()
