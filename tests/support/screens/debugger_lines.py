"""The debugger's prompt without a terminal: a line goes in, and what it says comes out."""

import io

from callgate.tools.debugger.commands.prompt import Prompt


def said(prompt: Prompt, line: str) -> str:
    """Return what a command says."""
    assert isinstance(prompt.output, io.StringIO)
    prompt.output.seek(0)
    prompt.output.truncate()
    prompt.line(line)
    return prompt.output.getvalue()
