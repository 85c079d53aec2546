"""Stopping: requests of hooks to the run loop, carried out before the next instruction.

Unicorn cannot be stopped in the middle of an instruction without running it twice or losing it.  So a hook only records
its request and lowers the counting hook's limit to zero; the engine then stops at the next boundary, where
`machine.running` carries it out.

The hook of an exception is such a boundary itself, and may be the last one: code that cannot be fetched never
comes to the counting hook.  So it ends by `leave`, which stops the engine there if a stop has been requested.
"""

from typing import Any, Final

from callgate.kernel.machine.engine.counter_state import NOWHERE, CounterState
from unicorn.unicorn_py3.unicorn import uclib

PAUSE: Final = "pause"
"""The reason of a stop that nothing but `pause` has asked for."""


class Control:
    """The requests of hooks, host calls and devices."""

    def __init__(self, state: CounterState, handle: Any) -> None:
        """Lower the limit in `state`; `handle` is the engine's raw one."""
        self.state = state
        self.handle = handle
        self.error: BaseException | None = None
        self.request: tuple[str, Any] | None = None
        self.interrupted = False
        self.running = False  # a run is under way

    def stop_soon(self) -> None:
        """Return to the run loop before the next instruction."""
        self.state.armed = 0
        self.state.limit = 0

    def due(self, *, interruptible: bool) -> bool:
        """Whether the counting hook would stop before the next instruction; `interruptible`: IF is set."""
        state = self.state
        if state.count < state.limit:
            return False
        return not state.armed or interruptible or bool(state.count >= state.hard_limit)

    def leave(self) -> None:
        """At the end of an exception's hook: stop the engine here if a stop has been asked for."""
        state = self.state
        if not state.limit and not state.armed:
            state.stopped = 1
            state.stop_address = NOWHERE  # the code at EIP may never have been translated
            uclib.uc_emu_stop(self.handle)

    def fail(self, error: BaseException) -> None:
        """Keep an exception of a hook, the first one, for `run` to raise."""
        if self.error is None:
            self.error = error
        self.stop_soon()

    def request_stop(self, reason: str, detail: Any = None) -> None:
        """End the run before the next instruction; the first request counts."""
        if self.request is None or self.request[0] == PAUSE:
            self.request = (reason, detail)
        self.stop_soon()

    def pause(self) -> None:
        """End the run before the next instruction, unless it ends there for another reason: `PAUSE`."""
        if self.request is None:
            self.request = (PAUSE, None)
        self.stop_soon()

    def interrupt(self) -> None:
        """Ctrl-C: end the run soon."""
        self.interrupted = True
        self.stop_soon()

    def clear(self) -> None:
        """Forget every request."""
        self.error = self.request = None
        self.interrupted = False

    @property
    def wanted(self) -> bool:
        """Whether the run is to end."""
        return self.request is not None or self.error is not None or self.interrupted

    def raise_error(self) -> None:
        """Raise the exception that a hook could not."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error
