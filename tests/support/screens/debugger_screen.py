"""The debugger's screen without a terminal: keys go in, and the text of the screen comes out."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

from callgate.tools.debugger.history import History
from callgate.tools.debugger.screen.app import DebuggerApp
from callgate.tools.debugger.target import Subject
from callgate.tools.debugger.workbench.workbench import Workbench
from textual._compositor import Compositor
from textual.message_pump import MessagePump
from textual.pilot import Pilot
from textual.widgets import Input

SAME = 3  # looks at the screen between which nothing changes
PATIENCE = 60  # seconds
FREE_SPACE = "tbreak ipc.load if op == FREE_SPACE and thread == 10"


def _later(pump: MessagePump) -> asyncio.Event | None:
    """Return what is set when a widget has taken the messages that it has now; None if it takes no more."""
    taken = asyncio.Event()
    return taken if pump.call_later(taken.set) else None


class Driven:
    """A screen that is driven by a test."""

    def __init__(self, app: DebuggerApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    async def press(self, *keys: str) -> None:
        """Press keys, each when the worker has done what the one before asked for."""
        for key in keys:
            await self.app._press_keys([key])
            await self.settle()

    async def enter(self, line: str) -> None:
        """Type a command."""
        await self.fill("command", line)

    async def fill(self, field: str, text: str) -> None:
        """Type a line into a field."""
        line = self.app.query_one(f"#{field}", Input)
        line.focus()
        line.value = text
        await self.press("enter", "escape")

    async def settle(self) -> None:
        """Wait until what keys have asked for is done by the worker, and what it has told is shown."""
        async with asyncio.timeout(PATIENCE):
            await self._pass_on()
            while self.app.worker.busy:
                await asyncio.sleep(0.002)
            await self._pass_on()
        self.app._beat()  # that the worker rests may not have been told yet
        self.app.screen._on_timer_update()

    async def resize(self, width: int, height: int) -> None:
        """Make the terminal another size, and wait until it is drawn in that: Textual lays it out when it has time."""
        await self.pilot.resize_terminal(width, height)
        async with asyncio.timeout(PATIENCE):
            await self.settle()
            while len(self.rows()) != height:
                await asyncio.sleep(0.002)
                await self.settle()

    async def _pass_on(self) -> None:
        """Let the messages that are under way arrive: they go up from the focus, a widget at a time."""
        focused = self.app.focused
        pumps = [self.app, self.app.screen, *(focused.ancestors_with_self[:-2] if focused is not None else ())]
        for _ in pumps:
            passed = [event for event in map(_later, pumps) if event is not None]
            await asyncio.gather(*(event.wait() for event in passed))

    async def still_rows(self) -> list[str]:
        """Return the rows that no longer change: a scroll bar comes with a layout of its own."""
        seen: list[list[str]] = []
        while len(seen) < SAME or any(rows != seen[-1] for rows in seen[-SAME:]):
            await self.pilot._wait_for_screen()
            self.app.screen._on_timer_update()
            seen.append(self.rows())
        return seen[-1]

    def rows(self) -> list[str]:
        """Return the rows of the screen, without blanks at their ends."""
        return [strip.text.rstrip() for strip in self.app.screen._compositor.render_strips()]

    @property
    def retired(self) -> int:
        """Where the picture says that the system stands."""
        assert self.app.picture is not None
        return self.app.picture.retired

    def shown(self, pane: str) -> str:
        """Return the text of a pane, also what is scrolled away."""
        return "\n".join("".join(text for text, _ in row) for row in self.app.query_one(f"#{pane}").rows)  # type: ignore[attr-defined]


def _leave_undrawn(compositor: Compositor, **_: Any) -> None:
    """Draw no update: without a terminal Textual throws it away.  `rows` draws the screen when a test looks at it."""
    compositor._dirty_regions.clear()


def drive(
    system: Subject, test: Callable[[Driven], Awaitable[Any]], size: tuple[int, int] = (80, 24), budget: int = 64 << 20
) -> None:
    """Open the screen over a system that has not run, and let a test drive it."""
    outlet: list[Callable[[bytes], None]] = []
    system.machine.serial.output = lambda data: outlet[0](data)  # noqa: PLW0108 - it is not there yet
    bench = Workbench(system, History(system, budget))
    app = DebuggerApp(bench, "demo.img")
    outlet.append(app.print_from_guest)

    async def idle(*_seconds: float) -> None:
        """Textual's pilot would wait until the process uses no CPU time; `settle` waits for what there is to do."""

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            driven = Driven(app, pilot)
            await driven.settle()
            await test(driven)

    idling = (mock.patch(f"textual.{module}.wait_for_idle", idle) for module in ("pilot", "app"))
    with ExitStack() as patches:
        for patch in idling:
            patches.enter_context(patch)
        if not os.environ.get("CALLGATE_THOROUGH"):
            patches.enter_context(mock.patch.object(Compositor, "render_update", _leave_undrawn))
        asyncio.run(run())
    bench.close()
    if app.failure is not None:
        raise app.failure
