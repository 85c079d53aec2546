"""What the debugger's own lines say, to compare editors with."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import callgate.asm
import pytest
from callgate.kernel.system import System
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import History
from callgate.tools.debugger.workbench.workbench import Workbench

SOURCE = Path(callgate.asm.__path__[0]) / "kernel" / "ipc" / "slots.asm"


class Lines:
    """A debugger of `df` with a breakpoint at the first instruction of `take_slot`."""

    source = SOURCE
    line = SOURCE.read_text(encoding="utf-8").splitlines().index("take_slot:") + 3

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.prompt = Prompt(bench, io.StringIO())
        self.prompt.line(f"break {SOURCE.name}:{self.line}")

    def retired(self, command: str) -> str:
        """Carry a command out; return how many instructions have retired."""
        self.prompt.line(command)
        return f"{self.bench.machine.clock.retired:#x}"

    def place(self, command: str) -> str:
        """Carry a command out; return FILE:LINE where the system then stands."""
        self.prompt.line(command)
        line = self.bench.code.line(self.bench.machine.cpu.eip, self.bench.debuggee.threads.running().process)
        assert line is not None
        return f"{Path(line.file).name}:{line.line}"


@pytest.fixture
def lines(boot_demo: Callable[[str], System]) -> Iterator[Lines]:
    system = boot_demo("df")
    bench = Workbench(system, History(system))
    yield Lines(bench)
    bench.close()
