"""Files with debug information from the cache: the same as those that are written anew, and never stale."""

from pathlib import Path

import pytest
from callgate.asm.assembler import Program, assemble, cache
from callgate.asm.assembler.output.debug.dwarf import Debugging

SOURCE = '.include "part.inc"\nstart: mov eax, PART\n ret\n'


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "part.inc").write_text("PART = 1\n")
    source = tmp_path / "unit.asm"
    source.write_text(SOURCE)
    return source


def anew(unit: Path, debugging: Debugging) -> bytes:
    return assemble(unit).elf(debug=debugging, whole=False)


def test_a_file_with_debug_information_is_written_once(unit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = anew(unit, Debugging())
    for _ in range(2):  # the first time there is no program in the cache yet either, the second time it is
        assert cache.debug_elf_cached(unit, Debugging(), "types") == wanted
    with monkeypatch.context() as patch:
        patch.setattr(Program, "elf", None)
        assert cache.debug_elf_cached(unit, Debugging(), "types") == wanted


def test_a_file_follows_its_sources_the_folder_and_the_types(unit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(unit.parent)
    for _ in range(2):
        cache.debug_elf_cached(unit, Debugging(), "types")
    for debugging in (Debugging(), Debugging(root=here, directory=here), Debugging(root=here, directory="/elsewhere")):
        assert cache.debug_elf_cached(unit, debugging, "types") == anew(unit, debugging)
    (unit.parent / "part.inc").write_text("PART = 2\n\n")
    for _ in range(3):
        assert cache.debug_elf_cached(unit, Debugging(), "types") == anew(unit, Debugging())
    with monkeypatch.context() as patch:
        patch.setattr(Program, "elf", lambda _program, **_options: b"written anew")
        assert cache.debug_elf_cached(unit, Debugging(), "other types") == b"written anew"


def test_a_damaged_file_is_written_anew_and_without_a_cache_each_time(
    unit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [cache.debug_elf_cached(unit, Debugging(), "types") for _ in range(2)][1]
    (kept,) = cache.cache_directory().glob("debug-*")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert cache.debug_elf_cached(unit, Debugging(), "types") == wanted
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert cache.debug_elf_cached(unit, Debugging(), "types") == wanted
