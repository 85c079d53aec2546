"""docs/writing-a-server.md is followed to the letter, and its server is tested beyond its promises."""

import io
import random
import re
import subprocess
import sys
import tarfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import MountError, read_pages
from callgate.server.testing import Rehearsal

DOCUMENT = Path(__file__).parents[2] / "docs" / "writing-a-server.md"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    server, test = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    folder = tmp_path_factory.mktemp("tarserver")
    (folder / "tarserver.py").write_text(server, "utf-8")
    (folder / "test_tarserver.py").write_text(test, "utf-8")
    return folder


@pytest.fixture(scope="module")
def tar_server(project: Path) -> Any:
    spec = spec_from_file_location("tarserver_from_the_docs", project / "tarserver.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TarServer


def test_the_test_in_the_document_about_servers_passes(project: Path) -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        "import test_tarserver as t; t.test_a_file_comes_back_as_tar_wrote_it()",
    ]
    subprocess.run(command, cwd=project, check=True, timeout=60)


def test_the_server_in_the_document_serves_what_tarfile_wrote(tar_server: Any) -> None:
    generator = random.Random(1)
    files = {f"d{i % 3}/e/file {i}.bin": generator.randbytes(generator.randrange(9000)) for i in range(40)}
    files |= {"empty": b"", "exact": bytes(1024)}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000
            tar.addfile(info, io.BytesIO(data))
    assert tar_server.probe(archive.getvalue()[:65536]) == "tar"
    rehearsal = Rehearsal(tar_server, bytes(63 * 512) + archive.getvalue(), start=63)
    rehearsal.start()
    for name, data in files.items():
        opened = rehearsal.request(Operation.OPEN, name.encode()).registers
        assert opened.ecx == len(data)
        position = 0
        while position < len(data):
            answer = rehearsal.request(Operation.READ, ebx=opened.eax, eax=position, ecx=3000)
            got = b"".join(rehearsal.read_sectors(*piece) for piece in answer.sectors)[: answer.registers.eax]
            assert got == data[answer.registers.ecx :][: len(got)]
            assert all((63 + first) // 8 == (63 + first + count - 1) // 8 for first, count in answer.sectors)
            position = answer.registers.ecx + len(got)
        assert rehearsal.request(Operation.READ, ebx=opened.eax, eax=len(data), ecx=1).registers.eax == 0
        assert rehearsal.request(Operation.CLOSE, eax=opened.eax).error is ErrorCode.OK
    listing = rehearsal.request(Operation.LOCK_DIRECTORY, b"")
    assert [file.name for file in read_pages(listing.memory)] == ["d0", "d1", "d2", "empty", "exact"]
    rehearsal.server.duplicate(rehearsal.memory)


@pytest.mark.parametrize("size", [b"zzzzzzzzzzz\0", b"77777777777\0"])
def test_the_server_in_the_document_refuses_a_damaged_archive(size: bytes, tar_server: Any) -> None:
    header = tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT)
    rehearsal = Rehearsal(tar_server, header[:124] + size + header[136:])
    with pytest.raises(MountError, match="sector 0"):
        rehearsal.start()


def test_the_document_names_every_operation() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert [member.name for member in Operation if f"| `{member.name}` |" not in text] == []
