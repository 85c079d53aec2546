"""What a boot imports: the start of `callgate boot` is mostly that."""

import os
import subprocess
import sys
from typing import Any

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.kernel.machine.blocks.kinds import VARIABLE
from callgate.tools.bench import starting

SCRIPT = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count()))
sys.argv = ["callgate", "boot", "-q", "-c", "exit 7"]
from callgate.tools.cli.main import main
try:
    main()
except SystemExit as end:
    print(end.code, *sorted(sys.modules))
    ours = [module for name, module in sys.modules.items() if name.startswith("callgate.")]
    classes = {each for module in ours for each in vars(module).values() if isinstance(each, type)}
    print(*sorted(each.__name__ for each in classes if "__dataclass_fields__" in vars(each)))
    print(sum(issubclass(each, tuple) and each.__module__.startswith("callgate.") for each in classes))
"""
# What a second boot has no use for: assembling and decoding, writing ELF files, other packages' data, other drives,
# media and clocks, the code of servers whose volumes are not there, snapshots, debuggers, the tools of tests.
UNUSED = {
    "callgate.disk.media.faults",
    "callgate.disk.media.memory",
    "callgate.disk.media.overlay",
    "callgate.disk.formatters",
    "callgate.disk.ide",
    "callgate.disk.images.demo_making",
    "callgate.kernel.machine.blocks.block_counter",
    "callgate.kernel.machine.snapshot",
    "callgate.kernel.watching.check_facts",
    "callgate.kernel.watching.invariants",
    "callgate.kernel.watching.snapshots",
    "callgate.server.exfat.boot_region",
    "callgate.server.exfat.server",
    "callgate.server.ext2.server",
    "callgate.server.ext2.superblock",
    "callgate.server.fat.consistency",
    "callgate.server.iso9660.descriptors",
    "callgate.server.iso9660.server",
    "callgate.server.zip_archive.end_record",
    "callgate.server.zip_archive.server",
    "capstone",
    "elftools",
    "email",
    "importlib.metadata",
    "keystone",
    "pickle",
    "pygments",
    "pytest",
    "textual",
}
# Of the assembler and the tools it imports these modules and no others.
ASSEMBLER = {
    "callgate.asm.kernel",
    "callgate.asm.user",
    "callgate.asm.assembler.cache",
    "callgate.asm.assembler.language.errors",
    "callgate.asm.assembler.output.elf_format",
    "callgate.asm.assembler.output.later",
    "callgate.asm.assembler.output.program",
    "callgate.asm.assembler.output.record",
    "callgate.asm.assembler.output.unit",
}
TOOLS = {
    "callgate.tools.cli.boot",
    "callgate.tools.cli.machine_options",
    "callgate.tools.cli.main",
    "callgate.tools.inspection.image_argument",
    "callgate.tools.session.ending",
    "callgate.tools.session.history",
    "callgate.tools.session.options",
    "callgate.tools.session.outputs",
    "callgate.tools.session.session",
    "callgate.tools.session.sizes",
    "callgate.tools.session.terminal",
}
# A module takes 0.15 ms and more to import: a higher number needs a reason.
MODULES = 293
# The standard library compiles the methods of each dataclass, and of each named tuple its `__new__`: 0.2 to 0.6 ms and
# 0.1 ms.  These are worth it; what else can change is a record (kernel/common/record.py).
DATACLASSES = ["Entry", "KernelState", "Unit"]
NAMED_TUPLES = 58


@pytest.fixture(scope="module")
def second_boot(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines that SCRIPT prints when it boots a second time: status and modules, classes, and objects at the end.

    Each boot is a process of its own: this one may know already what the first one is to put into the cache.  The cache
    begins as the user's, and no other process writes into it.
    """
    home = tmp_path_factory.mktemp("cache")
    folder = home / "callgate"
    folder.mkdir()
    for path in cache_directory().iterdir():
        (folder / path.name).symlink_to(path)  # a process that writes the file replaces the link
    script = [sys.executable, "-c", SCRIPT]
    environment = {**os.environ, "XDG_CACHE_HOME": str(home)}
    environment.pop(VARIABLE, None)  # another clock has imports of its own
    for _ in range(2):
        done = subprocess.run(
            script,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
    return done.stdout.splitlines()


def test_a_second_boot_imports_no_module_that_it_has_no_use_for(second_boot: list[str]) -> None:
    status, *names = second_boot[0].split()
    assert status == "7"
    modules = set(names)
    assert modules & UNUSED == set()
    packages = {name.rpartition(".")[0] for name in modules}
    for room, wanted in (("callgate.asm.", ASSEMBLER), ("callgate.tools.", TOOLS)):
        assert {name for name in modules - packages if name.startswith(room)} == wanted


def test_a_second_boot_imports_no_more_modules_than_its_budget_has(second_boot: list[str]) -> None:
    _, *names = second_boot[0].split()
    assert sum(name.startswith("callgate") for name in names) <= MODULES


def test_what_a_boot_imports_makes_no_dataclass_and_few_named_tuples(second_boot: list[str]) -> None:
    assert second_boot[1].split() == DATACLASSES
    assert int(second_boot[2]) <= NAMED_TUPLES


def test_python_looks_for_no_garbage_when_a_command_has_ended(second_boot: list[str]) -> None:
    assert int(second_boot[3]) > 10_000  # objects that the collector passes over


HELP = """
import sys
from callgate.tools.cli.main import COMMANDS, cli
for name in COMMANDS:
    cli.main([name, "--help"], prog_name="callgate", standalone_mode=False)
print(*sorted(sys.modules), file=sys.stderr)
"""


def test_the_help_of_a_command_imports_options_and_nothing_that_carries_the_command_out() -> None:
    script = [sys.executable, "-c", HELP]
    done = subprocess.run(script, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage: callgate ") == 9
    modules = set(done.stderr.split())
    assert modules & {"ctypes", "email", "hashlib", "unicorn", "pytest"} == set()
    rooms = {".".join(name.split(".")[1:3]) for name in modules if name.startswith("callgate.")}
    assert rooms == {
        *("tools", "tools.cli", "tools.session", "tools.inspection", "tools.fuzz"),
        *("kernel", "kernel.common"),
    }


def test_the_start_is_compared_with_the_engines_by_turns(monkeypatch: Any) -> None:
    ran: list[list[str]] = []

    def run(arguments: list[str]) -> float:
        ran.append(arguments)
        return len(ran) * (0.25 if arguments is starting.BOOT else 0.125)

    monkeypatch.setattr(starting, "run", run)
    engines, boot = starting.bench_start(3)
    assert ran == [starting.BOOT, *[starting.ENGINES, starting.BOOT] * 3]
    assert engines["wall_us"] == {"median": 500_000, "min": 250_000, "max": 750_000, "rounds": 3}
    assert boot["wall_us"] == {"median": 1_250_000, "min": 750_000, "max": 1_750_000, "rounds": 3}
    assert boot["ratio_to_import_engines"] == 2.5
