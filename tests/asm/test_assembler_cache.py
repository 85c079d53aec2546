"""The cache: fast, never stale, never trusted when it is damaged."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from callgate.asm.assembler import AsmErrors, Program, assemble, cache

SOURCE = '.include "part.inc"\nstart: mov eax, PART\n .event e x=eax\n ret\n'


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "src").mkdir()
    (tmp_path / "src/part.inc").write_text("PART = 1\n")
    source = tmp_path / "src/unit.asm"
    source.write_text(SOURCE)
    return source


def entries(unit: Path) -> list[Path]:
    return sorted((unit.parent.parent / "cache/callgate").iterdir())


@pytest.fixture
def assembled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Program, bool]]:
    """Return a function that assembles through the cache, and tells whether it was a hit."""
    real = cache.assemble_with_sources
    calls: list[object] = []

    def counted(*args: object, **options: object) -> object:
        calls.append(args)
        return real(*args, **options)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(cache, "assemble_with_sources", counted)

    def run(path: Path, **options: object) -> tuple[Program, bool]:
        before = len(calls)
        program = cache.assemble_cached(path, **options)
        return program, len(calls) == before

    return run


def test_assembling_a_source_again_gives_the_same_program_from_the_cache(
    unit: Path, assembled: Callable[..., tuple[Program, bool]]
) -> None:
    first, hit = assembled(unit)
    assert not hit
    second, hit = assembled(unit)
    assert hit
    assert first == second == assemble(unit)


def test_the_current_directory_matters_only_to_relative_paths(
    unit: Path, assembled: Callable[..., tuple[Program, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(unit.parent)
    found = [
        assembled(path, include_dirs=[folder])[1] for path, folder in ((unit, unit.parent), (Path("unit.asm"), "."))
    ]
    monkeypatch.chdir(unit.parent.parent)
    assert found == [False, False]
    assert assembled(unit, include_dirs=[unit.parent])[1]
    (unit.parent.parent / "unit.asm").write_text("ret\n")
    program, hit = assembled(Path("unit.asm"), include_dirs=["."])
    assert not hit
    assert program == assemble(Path("unit.asm"))


def test_a_change_of_source_include_or_options_is_noticed(
    unit: Path, assembled: Callable[..., tuple[Program, bool]]
) -> None:
    assembled(unit)
    (unit.parent / "part.inc").write_text("PART = 2\n")
    program, hit = assembled(unit)
    assert not hit
    assert program.sections[0].data[1] == 2
    unit.write_text(SOURCE + "nop\n")
    assert not assembled(unit)[1]
    assert not assembled(unit, origin=0x1000)[1]
    assert not assembled(unit, defines={"X": 1})[1]
    assert assembled(unit)[1]


def test_an_include_that_appears_nearer_by_is_noticed(
    unit: Path, assembled: Callable[..., tuple[Program, bool]]
) -> None:
    far = unit.parent.parent / "far"
    far.mkdir()
    (unit.parent / "part.inc").rename(far / "part.inc")
    assembled(unit, include_dirs=[far])
    assert assembled(unit, include_dirs=[far])[1]
    (unit.parent / "part.inc").write_text("PART = 9\n")
    program, hit = assembled(unit, include_dirs=[far])
    assert not hit
    assert program.sections[0].data[1] == 9


def test_damaged_entries_are_assembled_anew(unit: Path, assembled: Callable[..., tuple[Program, bool]]) -> None:
    wanted, _ = assembled(unit)
    (entry,) = entries(unit)
    good = entry.read_bytes()
    for damaged in (
        b"",
        b"x",
        good[:50],
        good[:-1],
        good.replace(b"start", b"stort"),
        b"\xff" * 200,
        good[:65] + b"[]",
        good.replace(b"ELF", b"FLE"),
    ):
        entry.write_bytes(damaged)
        program, hit = assembled(unit)
        assert not hit
        assert program == wanted
        assert entry.read_bytes() == good
    assert entries(unit) == [entry]


def test_the_assembler_works_without_a_cache_that_cannot_be_written(
    unit: Path, assembled: Callable[..., tuple[Program, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = unit.parent / "blocker"
    blocker.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocker))
    assert assembled(unit)[0] == assemble(unit)
    assert not assembled(unit)[1]


def test_errors_are_not_cached(unit: Path) -> None:
    unit.write_text("foo\n")
    for _ in range(2):
        with pytest.raises(AsmErrors):
            cache.assemble_cached(unit)


def test_a_cache_hit_loads_neither_keystone_nor_capstone(unit: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from callgate.asm.assembler.cache import assemble_cached\n"
        f"program = assemble_cached(Path({str(unit)!r})); program.symbol_at(program.entry); program.elf(debug=False)\n"
        "print(sorted({'keystone', 'capstone'} & set(sys.modules)))\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ)
        ).stdout
        for _ in range(2)
    ]
    assert outputs == ["['capstone', 'keystone']\n", "[]\n"]


def test_the_elf_file_of_a_unit_comes_from_the_cache_too(
    unit: Path, assembled: Callable[..., tuple[Program, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = assemble(unit).elf(debug=False, labels=True)
    assert cache.elf_cached(unit) == wanted
    assert assembled(unit)[1]  # the same entry
    with monkeypatch.context() as patch:
        patch.setattr(Program, "elf", None)
        assert cache.elf_cached(unit) == wanted
    unit.write_text(SOURCE + "nop\n")
    assert cache.elf_cached(unit) == assemble(unit).elf(debug=False, labels=True) != wanted
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", raiser)
    assert cache.elf_cached(unit) == assemble(unit).elf(debug=False, labels=True)


def raiser() -> Path:
    raise RuntimeError("no home")


def test_the_assembler_s_own_digest_is_kept_until_one_of_its_sources_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = tmp_path / "assembler", tmp_path / "cache/callgate"
    (folder / "part").mkdir(parents=True)
    (folder / "__pycache__").mkdir()
    for name in ("one.py", "part/two.py", "part/notes.txt", "__pycache__/three.py"):
        (folder / name).write_text(f"NAME = {name!r}\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "ASSEMBLER", str(folder))
    found, made = cache.content_digest, []
    monkeypatch.setattr(cache, "content_digest", lambda: made.append(1) or found())

    def fresh_process() -> tuple[str, int]:
        """Return the digest, and how often the sources were read for it."""
        made.clear()
        return cache.own_digest.__wrapped__(), len(made)

    first, count = fresh_process()
    assert count == 1
    (entry,) = kept.iterdir()
    assert fresh_process() == (first, 0)
    entry.write_bytes(entry.read_bytes()[:-1])
    assert [fresh_process(), fresh_process()] == [(first, 1), (first, 0)]
    for name in ("part/notes.txt", "__pycache__/three.py"):
        (folder / name).write_text("other\n")
    assert fresh_process() == (first, 0)
    os.utime(folder / "one.py", ns=(1, 1))
    assert [fresh_process(), fresh_process()] == [(first, 1), (first, 0)]
    (folder / "part/two.py").write_text("NAME = 'longer than it was'\n")
    second, count = fresh_process()
    assert (count, second != first) == (1, True)
    (folder / "four.py").touch()
    assert fresh_process()[1] == 1
