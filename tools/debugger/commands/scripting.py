"""Python at the prompt: `py EXPRESSION`, `py STATEMENT`."""

from __future__ import annotations

import io
import traceback
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from callgate.tools.debugger.history import HistoryInterrupted
from callgate.tools.debugger.workbench.failure import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callgate.kernel.machine.memory.lent_views import LentViews
    from callgate.tools.debugger.target import Target
    from callgate.tools.debugger.workbench.workbench import Workbench


class HandOnCpu:
    """The CPU at the prompt: a register that is set is a change by hand, as by `set`; all else is the machine's."""

    def __init__(self, bench: Workbench) -> None:
        object.__setattr__(self, "_bench", bench)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bench.machine.cpu, name)

    def __setattr__(self, name: str, value: int) -> None:
        self._bench.history.set_register(name, value)

    def __repr__(self) -> str:
        return repr(self._bench.machine.cpu)


class HandOnMachine:
    """The machine at the prompt, with such a CPU."""

    def __init__(self, bench: Workbench) -> None:
        object.__setattr__(self, "_bench", bench)
        object.__setattr__(self, "cpu", HandOnCpu(bench))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bench.machine, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._bench.machine, name, value)

    def run(self, **how: Any) -> Any:
        """Run as `Machine.run`, by the history: a run past it would not be kept."""
        return self._bench.history.run(**how)

    def step(self, count: int = 1) -> Any:
        """Retire instructions, by the history."""
        return self._bench.history.run(fuel=count)

    def __repr__(self) -> str:
        return repr(self._bench.machine)


def names(bench: Workbench) -> dict[str, object]:
    """Return what `py` knows from the beginning."""
    known = {
        "machine": HandOnMachine(bench),
        "history": bench.history,
        "bench": bench,
        "debuggee": bench.debuggee,
    }
    if not bench.debuggee.target.has_kernel:
        return known
    return known | {"system": bench.system, "kernel": bench.system.kernel}


def python(bench: Workbench, scope: dict[str, object], text: str) -> list[str]:
    """Evaluate an expression or execute a statement; return the lines of what it prints and of its value.

    CommandError with the last line of an exception: how it was raised says more of the debugger than of the guest.
    """
    printed = io.StringIO()
    given = names(bench) | {"print": partial(print, file=printed)}  # the guest's console may be standard output
    known = scope | given
    try:
        with _kept_open(bench.debuggee.target):
            value = _value(text, known)
    except HistoryInterrupted:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user has written raises
        told = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        raise CommandError(told) from None
    scope.update((name, found) for name, found in known.items() if name not in given and name != "__builtins__")
    _let_go(scope, bench.machine.ram.lent)
    return list(_lines(printed.getvalue(), value))


def _let_go(scope: dict[str, object], lent: LentViews) -> None:
    """Release views of memory that must not be held where a state is kept or restored; CommandError names them."""
    held = [name for name, found in scope.items() if isinstance(found, memoryview) and lent.lends(found)]
    for name in held:
        view = scope.pop(name)
        with suppress(BufferError):  # of something else that has been made of it
            view.release()  # type: ignore[attr-defined]
    if held:
        told = "a view of high memory lasts for one line, since states are kept and restored between lines"
        raise CommandError(f"{', '.join(held)}: {told}; bytes(…) is a copy that stays")


@contextmanager
def _kept_open(target: Target) -> Iterator[None]:
    """Refuse to close the system, or the machine, which the debugger looks at afterwards."""

    def refuse() -> None:
        raise RuntimeError("the system is closed when you leave the debugger: quit")

    holders = vars(target.system if target.has_kernel else target), vars(target.machine)
    for holder in holders:
        holder["close"] = refuse
    try:
        yield
    finally:
        for holder in holders:
            del holder["close"]


def _value(text: str, known: dict[str, object]) -> object:
    try:
        code = compile(text, "<py>", "eval")
    except SyntaxError:
        exec(compile(text, "<py>", "exec"), known)  # noqa: S102 - the user's own code, at the user's own prompt
        return None
    return eval(code, known)  # noqa: S307 - the same


def _lines(printed: str, value: object) -> Iterator[str]:
    yield from printed.splitlines()
    if value is not None:
        yield from repr(value).splitlines()
