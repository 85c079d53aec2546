"""`callgate bench`: the costs of paths, in exact counts and in wall time.

Counts are exact and the same on every machine.  Wall time is given as median, minimum and maximum over
several rounds, and as a ratio to an empty host call timed in the same run, because microseconds mean
nothing across machines.
"""

import json
from pathlib import Path

import click
from callgate.tools.session.sizes import Number

# Default rounds: a round of some takes seconds.
ROUNDS = {"ipc": 15, "read": 3, "clock": 5, "tests": 5, "debug": 3, "start": 9, "shell": 3}

EPILOG = """\b
Examples:
  callgate bench ipc            the IPC path, as a table
  callgate bench ipc --json     the same for a program
  callgate bench read           what reading files costs
  callgate bench tests          how many tests a second pytest runs
  callgate bench debug          a debugger, forward and back, also in a run of a minute: takes two
  callgate bench shell          cat, crc32 and hexdump of big files, cat of 1,000 small ones
  callgate bench start          how long a boot takes, against importing the engines
  callgate bench ipc --json > before.json
  callgate bench ipc --compare before.json    what has changed since
"""


@click.command(epilog=EPILOG)
@click.argument("name", type=click.Choice(list(ROUNDS)), default="ipc")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array; with --compare one object.")
@click.option(
    "--compare",
    "earlier",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Print ratios to the figures in FILE, which an earlier run wrote with --json.",
)
@click.option(
    "--rounds",
    type=Number(3, 1000),
    metavar="N",
    show_default=", ".join(f"{name}: {rounds}" for name, rounds in ROUNDS.items()),
    help="Rounds timed.",
)
def bench(name: str, as_json: bool, earlier: Path | None, rounds: int | None) -> int:
    """Measure NAME.

    NAME is ipc (requests, gates, boot), read (file data), clock (exact counting), tests (tests a second), debug
    (a machine under a debugger, steps a second), start (a boot as a process) or shell (what a user waits for).
    """
    from callgate.tools.bench import comparing
    from callgate.tools.bench.catalogue import BENCHMARKS, render
    from callgate.tools.bench.measuring import BenchmarkError, ended_by_ctrl_c

    try:
        before = comparing.read_results(earlier) if earlier is not None else None
        with ended_by_ctrl_c():
            results = BENCHMARKS[name](rounds or ROUNDS[name])
        comparison = comparing.compare(before, results) if before is not None else None
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from None
    if comparison is None:
        click.echo(json.dumps(results, indent=2) if as_json else render(results))
        return 0
    click.echo(json.dumps(comparing.as_json(comparison), indent=2) if as_json else comparing.render(comparison))
    return 0
