"""What tests of the plugin share."""

import shlex

import callgate.tools.debugger.commands.prompt  # noqa: F401  # pytester forgets modules that a test imports first
import pytest


@pytest.fixture
def opened(command_line):
    """Carry a command of a report out, then more lines of the debugger; return what it shows."""

    def opened(line, *more):
        words = shlex.split(line)
        assert words[0] == "callgate"
        done = command_line(*words[1:], *(word for text in (*more, "quit") for word in ("-e", text)))
        assert done.status == 0, done.messages
        return done.stdout.decode()

    return opened
