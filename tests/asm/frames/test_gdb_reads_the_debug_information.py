"""What gdb makes of the files for debuggers: structures, variables, sources, and backtraces through gates."""

import ctypes
import os
import re
import shutil
from pathlib import Path

import host_programs
import pytest
from callgate.asm.assembler import assemble_text
from callgate.asm.assembler.output.debug.dwarf import Debugging
from callgate.kernel.abi.layout import field_names, layouts, offset_of
from callgate.kernel.abi.memory import USER_STACK_TOP
from callgate.kernel.programs import images
from callgate.kernel.system import System, SystemOptions
from core_file import PAGE, core_file
from unwinding import Tables

SHARED = "/callgate"


def gdb(*words: str | Path) -> str:
    """Return what gdb prints; words that begin with a capital or a small letter are commands."""
    arguments = [part for word in words for part in (("-ex", word) if isinstance(word, str) else (word,))]
    result = host_programs.attempt("gdb", "-nx", "-batch", *arguments)
    return (result.stdout + result.stderr).decode()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("debug") / "kernel.elf"
    path.write_bytes(images.debug_image("kernel"))
    return path


def test_every_structure_has_the_sizes_and_offsets_of_the_abi(kernel: Path) -> None:
    images.abi_types()
    wanted, commands = [], []
    for name, layout in layouts().items():
        if not layout.__module__.startswith("callgate."):
            continue  # one of a test that has run in this process
        commands.append(f"output sizeof(struct {name})")
        wanted.append(ctypes.sizeof(layout))
        for field in field_names(layout):
            commands += ["echo \\n", f"output (unsigned)&((struct {name} *)0)->{field}"]
            commands += ["echo \\n", f"output sizeof(((struct {name} *)0)->{field})"]
            wanted += [offset_of(layout, field), getattr(layout, field).size]
        commands.append("echo \\n")
    script = kernel.with_name("sizes.gdb")
    script.write_text("\n".join(commands) + "\n")
    result = host_programs.run("gdb", "-nx", "-batch", "-x", script, kernel)
    assert [int(line) for line in result.split()] == wanted


def test_states_flags_and_variables_have_their_types(kernel: Path) -> None:
    out = gdb(
        "p (enum SlotState)3", "p (enum ThreadFlags)5", "p (enum PageTableEntry)0x1027", "whatis kernel_words",
        "p sizeof(disk_table)/sizeof(*disk_table)", "p task_state.io_map", "whatis ((struct Endpoint *)0)->state",
        "whatis ((struct ThreadControlBlock *)0)->wait_reason", kernel,
    )  # fmt: skip
    assert re.findall(r"^(?:\$\d+|type) = (.*)$", out, re.MULTILINE) == [
        *(
            "SERVED",
            "(KILLED | INTERRUPTED)",
            "(PRESENT | WRITABLE | USER | ACCESSED | unknown: 0x1000)",
            "struct KernelWords",
            "36",
            "104",
            "enum SlotState [32]",
            "enum WaitReason",
        ),
    ]


def test_sources_are_found_by_their_names_in_the_package(kernel: Path) -> None:
    out = gdb("list take_slot", "info line take_slot", "info source", kernel)
    assert "cmp     dword ptr gs:[Endpoint.slot_waiters], 0" in out
    assert 'of "asm/kernel/ipc/slots.asm" starts at address' in out


def test_a_file_for_another_computer_names_none_of_this_one(tmp_path: Path) -> None:
    root = Path(images.__file__).parents[2]
    for name in ("kernel", "hosted", "crash"):
        image = images.debug_image(name, SHARED)
        assert str(root).encode() not in image
        assert os.path.realpath(root).encode() not in image
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(root / "asm/user", elsewhere / "asm/user")
    (tmp_path / "crash.elf").write_bytes(images.debug_image("crash", SHARED))
    out = gdb(f"set substitute-path {SHARED} {elsewhere}", "list read_null", "info source", tmp_path / "crash.elf")
    assert f"Located in {elsewhere}/asm/user/programs/crash.asm" in out
    assert "mov     eax, [eax]" in out


def backtrace(system: System, kernel: Path, *commands: str, program: str = "shell") -> str:
    """Return what gdb prints of the present state of a system in which a program runs."""
    stack = system.machine.cpu.esp
    ranges = [range(stack, stack + 2 * PAGE), range(USER_STACK_TOP - 4 * PAGE, USER_STACK_TOP)]
    core, user = kernel.with_name("core"), kernel.with_name("user.elf")
    core.write_bytes(core_file(system.machine, ranges))
    user.write_bytes(images.debug_image(program))
    first = (
        "set osabi GNU/Linux",
        "set confirm off",
        f"file {kernel}",
        f"add-symbol-file {user}",
        f"core-file {core}",
    )
    return gdb(*first, *commands)


def test_a_backtrace_leads_through_the_gate_to_the_beginning_of_the_client(kernel: Path) -> None:
    with System([], SystemOptions(commands="ls /rom")) as system:
        assert system.run(until="take_slot").reason == "until"
        out = backtrace(system, kernel, "bt", "frame function read_directory", "p $ebx", "p $cs")
    names = re.findall(r"^#\d+ +(?:0x\w+ in )?(\w+) \(\) at", out, re.MULTILINE)
    assert names[1:10] == [  # gdb shows the innermost one beforehand
        *("take_slot", "ipc_request", "run_coroutine", "system_policy"),
        *("read_directory", "load_listing", "command_ls", "run_line", "start"),
    ]
    assert "corrupt" not in out


def test_a_backtrace_leads_through_an_exception(kernel: Path) -> None:
    with System([], SystemOptions(commands="/rom/crash r")) as system:
        assert system.run(until="trap_policy").reason == "until"
        out = backtrace(system, kernel, "bt", "info symbol $pc", program="crash")
    assert "<signal handler called>" in out
    assert "trap_policy in section .text" in out
    assert re.findall(r"^#\d+ +(?:0x\w+ in )?(\w+) \(\) at", out, re.MULTILINE)[-2:] == ["read_null", "start"]
    assert "corrupt" not in out


def test_a_programs_own_structures_are_types_too(tmp_path: Path) -> None:
    source = (
        ".struct Pair\n.field first, 4\n.field second, 8\n.field rest, 3\n.ends\n"
        "start: nop\n.bss\npairs: .space 3 * sizeof(Pair)\nframe: .space sizeof(GateFrame)\n"
    )
    path = tmp_path / "own.elf"
    path.write_bytes(assemble_text(source).elf(debug=Debugging(images.abi_types())))
    out = gdb("p sizeof(pairs)", "p &pairs[1].rest", "whatis frame", path)
    assert "$1 = 45" in out
    assert "<pairs+27>" in out
    assert "type = struct GateFrame" in out


def test_the_units_of_a_file_are_found_by_their_addresses() -> None:
    program = images.kernel_image()
    tables = Tables(images.debug_image("kernel"))
    for line in program.lines:
        assert tables.row(line.address).address <= line.address
    ranges = tables.dwarf.get_aranges()
    for section in program.sections:
        assert not section.executable or ranges.cu_offset_at_addr(section.address) is not None
