"""`callgate explain`: a number or a name in words."""

from __future__ import annotations

import json

import click

EPILOG = """\b
Examples:
  callgate explain eflags 0x246
  callgate explain pte 8000000000123067
  callgate explain descriptor 00cffa000000ffff
  callgate explain selector 0x2b
  callgate explain error-code pf 7
  callgate explain 0xc0101b88             symbol and source line in the kernel
  callgate explain 0x400010 --program hello
  callgate explain FREE_SPACE             an operation; also errors, calls, reply types
  callgate explain Endpoint               a structure; Endpoint.free is one field
  callgate explain ipc.map                an event of the trace
  callgate explain fast_requests          a counter of the ledger

\b
Kinds of values: eflags cr0 cr3 cr4 efer pte pde pdpte selector descriptor error-code address.
A kind without a value says what each bit means. Numbers: 0x1f, 1fh, 31; entries and descriptors
are hexadecimal without 0x, too. Exit codes: 0 explained; 2 not known.
"""


@click.command(epilog=EPILOG)
@click.argument("words", metavar="WHAT [VALUE]...", nargs=-1, required=True)
@click.option(
    "--program",
    metavar="NAME",
    help="Look an address of ring 3 up in this program: hello, shell, or a file that callgate asm has written.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def explain(words: tuple[str, ...], program: str | None, as_json: bool) -> int:
    """Say in words what WHAT is: a register's value, an entry, a selector, an error code, an address, a name."""
    from callgate.tools.explaining.answers import Unknown
    from callgate.tools.explaining.explain import explain as explained

    try:
        answers = explained(words, program)
    except Unknown as unknown:
        raise click.UsageError(str(unknown)) from None
    if as_json:
        click.echo(json.dumps([answer.as_dict() for answer in answers], indent=2))
    else:
        click.echo("\n\n".join("\n".join(answer.lines()) for answer in answers))
    return 0
