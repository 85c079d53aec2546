"""Host calls: how the kernel image's OUT instructions reach the managers that answer them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from callgate.kernel.abi.calls import HostAnswer, HostCall, ServerCall, SystemCall
from callgate.kernel.core.coroutines import Coroutines, Policy
from callgate.kernel.core.errors import KernelPanic
from callgate.kernel.core.guest import Guest

Answer = Callable[[int], None]
LaterAnswer = Callable[[int], Policy | Coroutine[Any, Any, None] | None]
# SYSTEM and SERVER stand for many calls, each counted as a host call of its own: "system.open", "server.hosted_step".
CALL_NAMES: dict[HostCall, dict[int, str]] = {
    HostCall.SYSTEM: {call: f"system.{call.name.lower()}" for call in SystemCall},
    HostCall.SERVER: {call: f"server.{call.name.lower()}" for call in ServerCall},
}


class HostCalls:
    """Registers answers with the machine, and answers BOOT_DONE and PANIC."""

    def __init__(self, guest: Guest, coroutines: Coroutines) -> None:
        self.guest = guest
        self.coroutines = coroutines

    def register(self, answers: Mapping[HostCall, Answer], later: Mapping[HostCall, LaterAnswer]) -> None:
        """Have host calls answered: at once, or `later` by a coroutine, if the answer returns one.

        ValueError if `HostCall.answer` says otherwise: the call's stub would not run the routines a coroutine awaits.
        """
        for given, calls in ((HostAnswer.AT_ONCE, answers), (HostAnswer.AWAITS, later)):
            wrong = [call.name for call in calls if call.answer is not given]
            if wrong:
                raise ValueError(f"not answered as HostCall.answer says: {', '.join(wrong)}")
        own = {HostCall.BOOT_DONE: self._boot_done, HostCall.PANIC: self._panic}
        host_calls = self.guest.machine.host_calls
        for call, answer in (own | dict(answers)).items():
            host_calls.register(call, answer, call.name.lower())
        for call, answer_later in later.items():
            host_calls.register(call, self._started(answer_later), call.name.lower(), CALL_NAMES.get(call))

    def _started(self, answer: LaterAnswer) -> Answer:
        """Return a function that calls an answer and starts the coroutine that it may return."""

        def call(value: int) -> None:
            waiting = answer(value)
            if waiting is not None:
                self.coroutines.start(waiting)

        return call

    def _boot_done(self, _value: int) -> None:
        """BOOT_DONE: paging is on and the drivers are ready; threads run next."""
        self.guest.machine.ledger.settle_boot()

    def _panic(self, value: int) -> None:
        """PANIC: machine code found the kernel in an impossible state."""
        where = self.guest.image.symbol_at(self.guest.machine.cpu.eip)
        raise KernelPanic(f"the kernel gave up, code {value:#x}, at {where}")
