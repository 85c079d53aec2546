"""A file-system server from another package: found by its entry point, booted, and its files printed."""

import importlib
import io
import os
import random
import re
import shutil
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.media import MemoryMedium
from callgate.kernel.servers import packages
from callgate.kernel.servers.packages import installed_servers
from callgate.tools.cli.main import cli
from click.testing import CliRunner

DOCUMENT = Path(__file__).parents[3] / "docs" / "writing-a-server.md"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the document's server on the path as an installed package; return the name of its module."""
    server, _ = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    entry_points = re.search(r"```toml\n\[project\.(.*?)\]\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert entry_points is not None
    site = tmp_path / "site"
    information = site / "tarserver-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "tarserver.py").write_text(server, "utf-8")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tarserver\nVersion: 1.0\n")
    name, value = entry_points[2].split("=")
    assert entry_points[1] == 'entry-points."callgate.servers"'
    (information / "entry_points.txt").write_text(f"[callgate.servers]\n{name.strip()} = {value.strip()[1:-1]}\n")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "tarserver", raising=False)
    return "tarserver"


FILES = {"hello.txt": b"hello from a tape\n", "docs/big.bin": random.Random(1).randbytes(300_000), "docs/empty": b""}


def tar_archive() -> bytes:
    """Return an archive, written by Python."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in FILES.items():
            information = tarfile.TarInfo(name)
            information.size = len(data)
            tar.addfile(information, io.BytesIO(data))
    return archive.getvalue()


def test_the_server_of_the_document_serves_a_volume_of_a_booted_system(
    boot: Callable[..., Any], installed: str, find_leaks: Callable[..., list[str]]
) -> None:
    files = FILES
    run = boot("ls; cat hello.txt docs/empty /d0/docs/big.bin", MemoryMedium(tar_archive()))
    assert run.status == 0, run.log
    assert any("/d0: tar" in line for line in run.log), run.log
    listing = run.output[: -len(files["hello.txt"] + files["docs/big.bin"])]
    assert sorted(listing.split()) == [b"docs", b"hello.txt"]
    assert run.output.endswith(files["hello.txt"] + files["docs/big.bin"])
    assert find_leaks(run.system) == []
    assert installed in sys.modules


@pytest.mark.usefixtures("installed")
def test_every_command_takes_a_volume_whose_server_knows_of_no_free_space(boot: Callable[..., Any]) -> None:
    run = boot("vol; df; dir; tree; find big.bin; crc32 docs/big.bin; hexdump hello.txt", MemoryMedium(tar_archive()))
    assert run.status == 0, run.log
    text = run.output.decode()
    assert text.startswith("volume /d0, label TAR\nserial number 00000000, file system tar\n"), text
    assert re.search(r"^/d0 +tar +0 +- +0 +-$", text, re.MULTILINE), text
    assert "       1 dir(s)              - bytes free\n" in text
    assert "\n/d0\n|-- docs/\n|   |-- big.bin\n|   `-- empty\n`-- hello.txt\n\n1 directory, 3 files\n" in text
    assert f"\n/d0/docs/big.bin\n{zlib.crc32(FILES['docs/big.bin']):08x}  docs/big.bin\n00000000  68 65 6c 6c" in text


def test_a_package_that_is_installed_or_removed_while_python_runs_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    without = [server.__name__ for server in installed_servers()]
    information = tmp_path / "second_fat-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: second-fat\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[callgate.servers]\nsecond = callgate.server.fat.server:FatServer\n")
    importlib.invalidate_caches()
    os.utime(tmp_path, ns=(0, 1))  # the clock of a file system is too coarse for a test as short as this
    assert sorted(server.__name__ for server in installed_servers()) == sorted([*without, "FatServer"])
    shutil.rmtree(information)
    importlib.invalidate_caches()
    assert [server.__name__ for server in installed_servers()] == without


@pytest.mark.usefixtures("installed")
def test_an_image_is_inspected_with_the_servers_that_are_installed(tmp_path: Path) -> None:
    image = tmp_path / "tape.tar"
    image.write_bytes(tar_archive())
    result = CliRunner().invoke(cli, ["disk", "inspect", str(image)], standalone_mode=False)
    assert '\n    tar, label "TAR"\n    3 files, 75 pages of data: ' in result.output


def test_declarations_of_packages_are_read_once_for_all_runs_and_again_when_one_has_been_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = tmp_path / "second_fat-1.0.dist-info/entry_points.txt"
    declared.parent.mkdir()
    (declared.parent / "METADATA").write_text("Metadata-Version: 2.1\nName: second-fat\nVersion: 1.0\n")
    declared.write_text("[callgate.servers]\nsecond = callgate.server.fat.server:FatServer\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read, reads = packages._read_entries, []
    monkeypatch.setattr(packages, "_read_entries", lambda: reads.append(1) or read())

    def fresh_process() -> tuple[list[str], list[str], int]:
        """Return the servers, what is said of broken ones, and how often packages were read."""
        packages._entries_of.cache_clear()
        reads.clear()
        return [server.__name__ for server in installed_servers()], packages.broken_servers(), len(reads)

    names = ["Exfat", "Ext2", "Fat", "Iso9660", "FatServer", "Zip"]
    assert [fresh_process(), fresh_process()] == [(names, [], 1), (names, [], 0)]
    (kept,) = (tmp_path / "cache/callgate").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert [fresh_process(), fresh_process()] == [(names, [], 1), (names, [], 0)]
    declared.write_text("[callgate.servers]\nsecond = callgate.server.fat.server:NoServer\n")
    importlib.invalidate_caches()
    found, (broken,), count = fresh_process()
    assert (found, count) == ([*names[:4], "Zip"], 1)
    assert broken.startswith(
        "server second of package second-fat (callgate.server.fat.server:NoServer) is not used: Attri"
    )
    packages._entries_of.cache_clear()
