"""The whole path: boot, mount, shell in ring 3, every request through IPC."""

import random
from collections.abc import Callable
from pathlib import Path

import host_programs
import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import FaultInjecting, ImageFile, MemoryMedium
from callgate.kernel.abi.errors import ERROR_TEXT, ErrorCode
from callgate.kernel.programs.images import program_image

Make = Callable[..., Path]


def sample(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


FILES = {
    "README.TXT": b"hello\n",
    "EMPTY.DAT": b"",
    "docs/A file with a long name.txt": sample(5000, 1),
    "docs/deep/er/X.BIN": sample(70_001, 2),
    "BIG.BIN": sample(1_000_003, 3),
}


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize(("width", "mebibytes"), [(12, 4), (16, 16), (32, 40)])
def test_cat_gives_every_byte_that_mtools_wrote(boot, fat_image: Make, width: int, mebibytes: int) -> None:
    files = FILES if width != 12 else {name: data for name, data in FILES.items() if len(data) < 100_000}
    image = fat_image(files, width=width, mebibytes=mebibytes)
    for name, data in files.items():
        run = boot(f'cat "/d0/{name}"', image)
        assert run.stop.reason == "exit", run.log
        assert run.output == data
        assert run.status == 0
        assert run.leaks() == []


def test_files_that_start_at_any_sector_are_read_through_private_copies(boot, fat_image: Make) -> None:
    image = fat_image(FILES, "-s", "1", "-R", "3", "-a", width=16, mebibytes=8)
    run = boot('cat BIG.BIN "docs/A file with a long name.txt"', image)
    assert run.output == FILES["BIG.BIN"] + FILES["docs/A file with a long name.txt"]
    counts = run.system.machine.ledger.counts()
    assert counts.cpu_file_bytes["kernel"] > 0
    assert run.leaks() == []


def test_an_aligned_file_is_touched_only_by_dma(boot) -> None:
    run = boot("cat PATTERN.BIN", demo_image(cache_directory()))
    assert len(run.output) == 3 << 20
    counts = run.system.machine.ledger.counts()
    # WRITE has the console read the bytes out of memory and touches one of each page; no other code reads them.
    assert counts.cpu_file_bytes["kernel"] == (3 << 20) // 4096
    assert counts.dma_bytes["write"] == 3 << 20
    assert counts.dma_bytes["read"] >= 3 << 20


def test_directory_listings_agree_with_mdir(boot, fat_image: Make) -> None:
    image = fat_image(FILES)
    listed = host_programs.run("mdir", "-b", "-i", image, "::/")
    names = sorted(line.removeprefix("::/").rstrip("/") for line in listed.split())
    run = boot("ls", image)
    assert sorted(run.output.decode().split()) == names


def test_no_physical_address_is_left_where_a_server_will_see_it(boot, fat_image: Make) -> None:
    """The reply to a request for a directory names frames; the message page is the server's again with the next one."""
    run = boot("dir docs", fat_image(FILES, width=16, mebibytes=16))
    endpoints = [item for item in run.system.kernel.state.endpoints.by_number.values() if item.name == "d0"]
    assert endpoints[0].frames
    assert run.leaks() == []


def test_each_of_two_disks_has_its_volume(boot, fat_image: Make) -> None:
    first = fat_image({"A.TXT": b"a"}, name="first.img")
    second = fat_image({"B.TXT": b"b"}, name="second.img", width=12, mebibytes=2)
    run = boot("cat /d0/A.TXT /d1/B.TXT; ls /", first, second)
    assert run.output == b"abd0\nd1\nrom\n"


def test_the_exit_code_is_that_of_the_last_command(boot) -> None:
    assert boot("true").status == 0
    assert boot("false").status == 1
    assert boot("exit 42").status == 42
    assert boot("nonsense").status == 127


def test_programs_come_from_rom_and_get_their_arguments(boot) -> None:
    run = boot("hello one two; /rom/hello three")
    assert run.output == b"hello from ring 3, arguments: one two\nhello from ring 3, arguments: three\n"
    assert run.leaks() == []


def test_paths_work_with_dos_and_unix_habits(boot, fat_image: Make) -> None:
    image = fat_image(FILES)
    run = boot(r"cd docs\deep; pwd; cd ..; pwd; cd \docs; pwd; TYPE ..\readme.txt; cd /rom; pwd", image)
    assert run.output == b"/d0/docs/deep\n/d0/docs\n/d0/docs\nhello\n/rom\n"


def test_the_error_texts_of_the_programs_are_those_of_the_abi() -> None:
    program = program_image("shell")
    for code in ErrorCode:
        address = program.address(f"error_{int(code)}")
        section = next(s for s in program.sections if s.address <= address < s.address + len(s.data))
        text = section.data[address - section.address :].split(b"\0")[0]
        assert text.decode() == ERROR_TEXT[code]


def test_a_read_error_ends_the_command_and_nothing_else(boot, fat_image: Make) -> None:
    image = fat_image({"GOOD.TXT": b"good\n", "BAD.BIN": sample(2_000_000, 4)})
    data = image.read_bytes()
    bad = data.find(sample(2_000_000, 4)[1_000_000:1_000_512]) // 512
    run = boot("cat BAD.BIN; echo; echo $?; cat GOOD.TXT", FaultInjecting(ImageFile(image), bad=[bad]))
    assert b"cat: BAD.BIN: disk error" in run.output
    assert run.output.endswith(b"good\n")
    assert run.leaks() == []


def test_a_disk_that_disappears_ends_only_its_own_requests(boot, fat_image: Make) -> None:
    image = fat_image({"BIG.BIN": sample(6_000_000, 5)})
    for transfers in (8, 12, 20):
        medium = FaultInjecting(ImageFile(image), removed_after=transfers)
        run = boot("cat BIG.BIN; hello still here", medium)
        assert run.stop.reason == "exit", run.log
        assert run.output.endswith(b"hello from ring 3, arguments: still here\n")
        assert run.leaks() == []


@pytest.mark.parametrize("content", [b"\0" * 4096, b"garbage" * 1000, bytes(range(256)) * 64])
def test_a_disk_without_a_file_system_is_reported_and_skipped(boot, content: bytes) -> None:
    run = boot("ls /", MemoryMedium(content))
    assert run.output == b"rom\n"
    assert any("d0" in line or "disk 0" in line for line in run.log)


def test_two_runs_of_the_same_command_are_the_same_run(boot, fat_image: Make) -> None:
    image = fat_image(FILES)
    traces = []
    for _ in range(2):
        lines: list[str] = []
        run = boot("dir; cat README.TXT", image)
        traces.append((run.stop.retired, run.output, run.system.machine.ledger.counts().as_dict(), lines))
    assert traces[0] == traces[1]


@pytest.mark.thorough(only=True)
def test_ide_reads_the_same_bytes_and_copies_every_one(boot, fat_image: Make) -> None:
    image = fat_image(FILES)
    run = boot("cat BIG.BIN", image, ide=True)
    assert run.output == FILES["BIG.BIN"]
    counts = run.system.machine.ledger.counts()
    assert counts.dma_bytes == {"write": len(run.output)}, "by the console alone"
    # The driver stores each byte once (REP INSD); of what the console sends the CPU touches a byte a page.
    assert counts.cpu_file_bytes["kernel"] >= len(run.output)
    assert run.leaks() == []
