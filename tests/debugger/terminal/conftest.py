"""A prompt over a system that has not run."""

import io
from collections.abc import Callable, Iterator

import pytest
from callgate.kernel.system import System
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import History
from callgate.tools.debugger.workbench.workbench import Workbench


@pytest.fixture
def bench(boot_demo: Callable[[str], System]) -> Iterator[Workbench]:
    """The demo, with `df` for the shell, before its first instruction."""
    system = boot_demo("df")
    bench = Workbench(system, History(system))
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def resting(boot_for_all: Callable[[str], System]) -> Iterator[Prompt]:
    """A prompt for all tests of a file, which leave the system before its first instruction."""
    system = boot_for_all("df")
    bench = Workbench(system, History(system))
    yield Prompt(bench, io.StringIO())
    bench.close()


@pytest.fixture
def prompt(bench: Workbench) -> Prompt:
    return Prompt(bench, io.StringIO())
