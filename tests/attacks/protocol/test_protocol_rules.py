"""Servers that lie about a reply's type, and threads of a server that use a page after another one has replied."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import SERVER_CALL_NO_WAIT
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.machine.devices.serial import IRQ

VOLUME = 1  # the ROM has number 0

Arenas = Callable[..., Any]


@pytest.mark.parametrize("how", [0, SERVER_CALL_NO_WAIT], ids=["and waits", "and does not wait"])
def test_a_reply_has_the_type_of_the_call_that_made_it_whatever_the_page_says(arena: Arenas, how: int) -> None:
    """A server that has its registers taken as an object of its choice gives its client a page of the kernel."""
    made = arena()
    made.wanted.append(lambda: setattr(made.server("forger", "evil", HOW=how), "hidden", False))
    made.victim()
    made.attacker("visitor", argument=b"/evil")
    assert made.run().reason == "halt"
    assert made.results == [100 + ErrorCode.BAD_REPLY], made.log
    made.assert_unharmed()


def test_no_other_thread_of_a_server_sees_or_changes_a_page_that_has_been_replied(arena: Arenas) -> None:
    """Rule 1: the page leaves the server before the reply is read, and so before the kernel writes addresses into it.

    The other thread gets its turn at each instruction of the reply up to its end.
    """
    made = arena()
    made.wanted.append(lambda: made.server("watcher", "evil"))
    made.attacker("asker", VOLUME)
    assert made.system.run(until="reply").reason == "until"
    kept = made.system.snapshot()
    begin = made.system.machine.clock.retired
    made.system.run(until="next_request")
    length = made.system.machine.clock.retired - begin
    too_late = 0
    for steps in range(length):
        made.system.restore(kept)
        made.log.clear()
        made.system.machine.step(steps)
        made.kernel.scheduler.request_yield()
        made.system.machine.pic.lower_line(IRQ)
        made.system.machine.pic.raise_line(IRQ)
        made.run(20_000)
        assert not any("#UD" in line for line in made.log), (steps, made.log)
        too_late += any("page not present" in line for line in made.log)
    assert too_late > length // 2, "the other thread must have had its turn after the page had left the server"
