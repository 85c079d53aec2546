"""`time`: instructions are never shown without the host calls that were made beside them, by name."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from callgate.kernel.abi.calls import HOST_CALL_FIRST, SERVER_CALL_FIRST, HostCall, ServerCall, SystemCall
from callgate.kernel.programs.images import program_image

POLICY_CALLS = [call for call in ServerCall if call >= SERVER_CALL_FIRST]
NAMES = (
    {call.name.lower() for call in HostCall}
    | {f"system.{call.name.lower()}" for call in SystemCall}
    | {f"server.{call.name.lower()}" for call in POLICY_CALLS}
)


def test_time_names_the_host_calls_that_a_command_made(boot: Any, fat_image: Callable[..., Path]) -> None:
    image = fat_image({"A.TXT": b"a line\n", "docs/B.TXT": b"b\n"})
    run = boot("time ls docs", image)
    rows = re.findall(r"(\d+) ([^,\n]+)", run.output.decode())
    counts = {name.strip(): int(count) for count, name in rows}
    calls = NAMES & set(counts)
    assert {"system.lock_directory", "server.hosted_step", "server.lock_blocks", "convert"} <= calls
    assert not {"system", "server"} & calls, "every call has a name of its own"
    assert sum(counts[name] for name in calls) == counts["host calls"] > 0
    assert all(counts[name] for name in calls)
    totals = run.system.machine.ledger.counts().host_calls
    assert all(counts[name] <= totals[name] for name in calls)
    assert counts["convert"] == 1, "one reply with pages, the directory's"


def test_names_of_host_calls_in_time_are_in_the_order_of_their_numbers() -> None:
    shell = program_image("shell").elf(debug=False)
    assert min(HostCall) == HOST_CALL_FIRST
    assert min(SystemCall) == 0
    for numbers, prefix in ((HostCall, ""), (SystemCall, "system."), (POLICY_CALLS, "server.")):
        by_number = {call: f"{prefix}{call.name.lower()}".encode() for call in numbers}
        names = b"\0".join(by_number.get(number, b"") for number in range(min(numbers), max(numbers) + 1))
        assert b"\0" + names + b"\0" in shell
