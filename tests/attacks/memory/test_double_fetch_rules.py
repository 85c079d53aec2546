"""The kernel reads what ring 3 can change once in a call: a second read may find data that the first did not check."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from callgate.asm.assembler import assemble
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import ImageFile, MemoryMedium
from callgate.kernel import system as systems
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.gates.caller import Caller
from callgate.kernel.programs.images import KERNEL_LOAD, source
from callgate.kernel.system import System, SystemOptions
from callgate.tools.fuzz.volumes import sound_image
from double_fetch import Detector

# Pairs of reads of the same bytes in one call that are right, and why.
JUSTIFIED = {
    ("Hosted._result", "Hosted._store"): "the second is written back as it was, but for the fields that are set",
}
EVERYTHING = (
    "dir; cat README.TXT; find /d0p1 README.TXT; crc32 README.TXT; hexdump README.TXT 0 64; df; ps; cat nofile; "
    "hello a b c; echo $?; tree /d0p1"
)


@pytest.fixture
def watched() -> Iterator[Callable[..., tuple[System, Detector]]]:
    """Boot a system with a detector: `watched(commands, *media, **options)`, not run yet."""
    made: list[System] = []

    def boot(commands: str, *media: Any, **options: Any) -> tuple[System, Detector]:
        settings = SystemOptions(commands=commands, output=lambda _data: None, log=lambda _line: None, **options)
        made.append(System(list(media) or [ImageFile(demo_image(cache_directory()))], settings))
        return made[-1], Detector(made[-1])

    yield boot
    for system in made:
        system.close()


def unjustified(detector: Detector) -> dict[tuple[str, str], Any]:
    return {places: pairs[0] for places, pairs in detector.findings.items() if places not in JUSTIFIED}


def places(detector: Detector) -> set[str]:
    return {read.place for read in detector.reads}


def test_no_shell_command_makes_the_kernel_read_a_byte_twice(watched: Any) -> None:
    """Paths, command lines, output, listings, reads, hosted servers' requests."""
    system, detector = watched(EVERYTHING)
    assert system.run(fuel=100_000_000).reason == "exit"
    assert unjustified(detector) == {}
    assert {"copy_path", "serial_write", "Caller.string"} <= places(detector), "the detector must have seen these"


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("kind", ["zip", "ext4", "rockridge"])
def test_no_other_server_makes_the_kernel_read_a_byte_twice(watched: Any, kind: str) -> None:
    system, detector = watched("dir; tree; crc32 README.TXT; crc32 docs/note.txt; df", MemoryMedium(sound_image(kind)))
    assert system.run(fuel=100_000_000).reason == "exit"
    assert unjustified(detector) == {}


def test_writing_to_files_in_memory_makes_the_kernel_read_no_byte_twice(watched: Any) -> None:
    system, detector = watched("poke PATTERN.BIN 0 65 66 67; hexdump PATTERN.BIN 0 32; cat README.TXT", scratch=True)
    assert system.run(fuel=100_000_000).reason == "exit"
    assert unjustified(detector) == {}


@pytest.mark.thorough(only=True)
def test_random_calls_make_the_kernel_read_no_byte_twice(arena: Callable[..., Any]) -> None:
    made = arena(ImageFile(demo_image(cache_directory())))
    made.wanted.append(lambda: made.attackers.append(made.start("caller", b"seed", CALLS=600)))
    detector = Detector(made.system)
    made.run()
    assert made.results == [0]
    assert unjustified(detector) == {}
    assert detector.reads


@pytest.mark.parametrize("attack", ["watcher", "forger"])
def test_a_message_page_is_read_only_when_no_server_can_write_to_it(arena: Callable[..., Any], attack: str) -> None:
    """Rule 1, seen from the other side: not one read of a page while it is mapped in the server."""
    made = arena()
    made.wanted.append(lambda: made.server(attack, "evil", **({"HOW": 0} if attack == "forger" else {})))
    made.attacker("asker", 1)
    detector = Detector(made.system)
    made.run(5_000_000)
    frames = set(made.kernel.state.endpoints.by_number[1].frames.values())
    assert frames
    assert [read for read in detector.reads if read.physical & -4096 in frames] == []


def test_a_double_fetch_that_is_planted_in_policy_is_found(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    once = Caller.string

    async def twice(self: Caller, *arguments: Any) -> bytes:
        await once(self, *arguments)
        return await once(self, *arguments)

    monkeypatch.setattr(Caller, "string", twice)
    system, detector = watched("hello a b c")
    system.run(fuel=100_000_000)
    assert ("Caller.string", "Caller.string") in unjustified(detector)


@pytest.mark.thorough(only=True)  # it assembles another kernel; the one that is planted in policy is always found
def test_a_double_fetch_that_is_planted_in_machine_code_is_found(
    watched: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources = tmp_path / "kernel"
    shutil.copytree(source("callgate.asm.kernel", ""), sources)
    file = sources / "entry" / "usercopy.asm"
    text = file.read_text(encoding="utf-8")
    assert text.count("        rep     movsb\n") == 1
    file.write_text(text.replace("        rep     movsb\n", "        mov     dl, [esi]\n        rep     movsb\n"))
    image = assemble(sources / "kernel.asm", origin=KERNEL_BASE + KERNEL_LOAD, load=KERNEL_LOAD, entry="start")
    monkeypatch.setattr(systems, "kernel_image", lambda: image)
    system, detector = watched("cat README.TXT")
    system.run(fuel=100_000_000)
    assert ("copy_path", "copy_path") in unjustified(detector)
