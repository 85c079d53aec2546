"""Conditional jumps of assembled programs are found, named by label and line, and switched in place."""

from pathlib import Path

import jumps
import pytest
from callgate.asm.assembler import Program, assemble, assembly, cache
from callgate.asm.assembler.cache import assemble_cached, debug_elf_cached
from callgate.asm.assembler.output.debug.dwarf import Debugging
from callgate.tools.asmtest.bare.cpu import BareCpu
from mutant_lists import ROOT

SOURCE = """
        .macro CHECK limit, bad
        cmp     eax, \\limit
        jae     \\bad
        .endm
        .macro SKIP
        cmp     eax, 3
        je      .skipped\\@
        inc     eax
.skipped\\@:
        .endm
first:
        CHECK   9, .bad                 ; not too large
        CHECK   7, .bad
        SKIP
        SKIP
        test    eax, eax
        jz      .bad                    ; nor nothing
        jecxz   .bad
        ret
.bad:   xor     eax, eax
        ret
far:    test    eax, eax
        jz      .far
        jz      .far
        .space  200, 0x90
.far:   ret
"""
NAMES = [
    "first: CHECK 9, .bad: jae .bad",
    "first: CHECK 7, .bad: jae .bad",
    "first: SKIP: je .skipped",
    "first: SKIP: je .skipped (2)",
    "first: jz .bad",
    "first: jecxz .bad",
    "far: jz .far",
    "far: jz .far (2)",
]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel of two routines."""
    path = tmp_path / "asm" / "kernel" / "small.asm"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCE)
    monkeypatch.setattr(jumps, "ROOT", tmp_path)
    monkeypatch.setattr(jumps, "kernel_image", lambda: assemble(path))
    for module, name in ((cache, "restore"), (assembly, "make_program")):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back after `switch`
    monkeypatch.setattr(cache, "write_checked", cache.write_checked)
    return path


def code(program: Program) -> bytes:
    return b"".join(section.data for section in program.sections if section.executable)


def test_jumps_are_named_by_label_and_line_also_where_a_macro_makes_them(source: Path) -> None:
    found = jumps.all_jumps()
    assert [jump.name for jump in found] == NAMES
    assert {jump.file for jump in found} == {"asm/kernel/small.asm"}
    assert found[0].cases == [f"{NAMES[0]}, never taken", f"{NAMES[0]}, always taken"]
    source.write_text(SOURCE.replace("first:", "; one more line\nfirst:"))
    assert [jump.name for jump in jumps.all_jumps()] == NAMES


@pytest.mark.parametrize(
    ("name", "always", "results"),
    [
        (NAMES[0], True, {1: 0, 8: 0}),
        (NAMES[1], False, {1: 3, 3: 3, 8: 10, 9: 0}),
        (NAMES[1], True, {1: 0, 8: 0}),
        (NAMES[2], False, {1: 3, 3: 5}),
        (NAMES[2], True, {1: 2, 3: 3}),
        (NAMES[3], False, {1: 3, 2: 4, 3: 4}),
        (NAMES[4], True, {1: 0}),
        (NAMES[5], True, {1: 0}),
    ],
)
def test_a_jump_is_switched_where_it_is_and_nowhere_else(
    source: Path, name: str, always: bool, results: dict[int, int]
) -> None:
    before = assemble(source)
    jump = next(jump for jump in jumps.all_jumps() if jump.name == name)
    after = jumps.patch(assemble(source), jump, always=always)
    assert len(code(after)) == len(code(before))
    changed = [at for at, (old, new) in enumerate(zip(code(before), code(after), strict=True)) if old != new]
    assert changed == list(range(changed[0], changed[0] + len(changed)))
    cpu = BareCpu()
    cpu.load(str(source))
    assert {value: cpu.call("first", eax=value, ecx=1).eax for value in results} != results
    jumps.switch(jump, jumps.programs(), always=always)
    switched = BareCpu()
    switched.load(str(source))
    assert {value: switched.call("first", eax=value, ecx=1).eax for value in results} == results


@pytest.mark.parametrize("always", [False, True])
def test_a_jump_of_any_length_becomes_one_instruction(source: Path, always: bool) -> None:
    jump = jumps.all_jumps()[6]
    counts = []
    for change in (False, True):
        if change:
            jumps.switch(jump, jumps.programs(), always=always)
        cpu = BareCpu()
        cpu.load(str(source))
        counts.append(cpu.call("far", eax=int(not always)).instructions)
    assert counts[0] == counts[1] == (3 if always else 204)


def test_programs_that_exist_and_programs_out_of_the_cache_are_switched(source: Path) -> None:
    jump = jumps.all_jumps()[4]
    assembled = assemble_cached(source)
    before = code(assembled)
    jumps.switch(jump, jumps.programs(), always=True)
    assert code(assembled) == code(assemble_cached(source)) == code(assemble(source)) != before


def test_a_program_with_a_jump_switched_is_not_kept_for_other_processes(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    jumps.switch(jumps.all_jumps()[4], [], always=True)
    assemble_cached(source)
    debug_elf_cached(source, Debugging(), "")
    assert not list((tmp_path / "cache").rglob("*"))


def test_every_conditional_jump_of_the_kernel_lies_in_its_folder_and_has_its_own_name() -> None:
    found = jumps.all_jumps()
    assert len({(jump.file, jump.name) for jump in found}) == len(found) > 300
    assert {jump.file.split("/")[:2] == ["asm", "kernel"] for jump in found} == {True}
    assert all((ROOT / jump.file).is_file() for jump in found)
