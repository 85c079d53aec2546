"""Reads lines from a terminal or a pipe, and has them carried out."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from callgate.tools.debugger.commands.at_stops import complete
from callgate.tools.debugger.commands.completing import completions
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench

PROMPT = "(callgate) "
PROMPT_OF_LINES = ">"  # for lines of a stop's commands, as gdb has it


def converse(bench: Workbench, commands: Iterable[str], scripts: Iterable[Path], source: TextIO = sys.stdin) -> None:
    """Say where the system stands; carry out scripts and commands; then read lines.  ScriptError, CommandError."""
    prompt = Prompt(bench, sys.stdout)
    prompt.begin()
    for path in scripts:
        prompt.script(path)
    for text in commands:
        prompt.line(text)
    complete(prompt.desk)
    if not prompt.desk.ended:
        talk(prompt, source)


def talk(prompt: Prompt, source: TextIO) -> None:
    """Read lines up to the end of input or `quit`; errors are said."""
    interactive = source.isatty()
    if interactive:
        _complete(prompt.desk.bench)
    while not prompt.desk.ended:
        try:
            asks = PROMPT if prompt.desk.taking is None else PROMPT_OF_LINES
            text = input(asks) if interactive else source.readline()
        except EOFError:
            prompt.say("")
            break
        except KeyboardInterrupt:
            prompt.say("")
            prompt.desk.taking = None
            continue
        if not interactive and not text:
            break
        try:
            prompt.line(text)
        except CommandError as error:
            prompt.say(f"error: {error}")
        except KeyboardInterrupt:  # between two runs: while something is shown, or looked up
            prompt.say("interrupted")
    try:
        complete(prompt.desk)
    except CommandError as error:
        prompt.say(f"error: {error}")


def _complete(bench: Workbench) -> None:
    """Let Tab complete words of commands, and names in their arguments."""
    try:
        import readline
    except ImportError:  # a Python that was built without it
        return
    readline.set_completer(lambda text, state: _nth(completions(text, readline.get_line_buffer(), bench), state))
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")


def _nth(items: list[str], index: int) -> str | None:
    return items[index] if index < len(items) else None
