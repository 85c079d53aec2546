"""The work of a hosted server is visible as a native one's: its registers, its calls by name, the bytes it touches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.message import Message
from callgate.kernel.abi.thread import HostedBlock
from callgate.kernel.programs.images import program_image

Sessions = Callable[..., Any]
SIZE = 64 << 10
STEPS = ["ipc.load", "ipc.call", "server.hosted_step", "ipc.save", "ipc.reply"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hosted")
    (folder / "FILE.BIN").write_bytes(bytes(SIZE))
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=16 << 20)
    return out


def begun(session: Sessions, image: Path) -> Any:
    """Return a session whose reader is about to open the file; the volume is mounted."""
    made = session(image, programs=[("reader", "c/d0/FILE.BIN")])
    made.reach("reader", "start")
    return made


def test_the_stub_of_a_hosted_server_loads_and_saves_the_registers_itself(session: Sessions, image: Path) -> None:
    made = begun(session, image)
    kernel, machine = made.kernel, made.system.machine
    seen: list[tuple[str, int, int]] = []  # step, EAX of the page, EAX of the block
    pages: list[int] = []

    def note(step: str) -> None:
        thread = kernel.scheduler.current
        if step == "ipc.load":
            pages.append(machine.cpu.esi)
        if thread.process.program != "hosted" or not pages:
            return
        memory = kernel.processes.memory_of(thread.process)
        block = memory.read(thread.hosted_block + offset_of(HostedBlock, "eax"), 4)
        page = memory.read(pages[-1] + offset_of(Message, "eax"), 4) if step != "ipc.reply" else b""
        seen.append((step, int.from_bytes(page, "little"), int.from_bytes(block, "little")))

    machine.stream.subscribe(lambda event: note(event.kind), kinds=[step for step in STEPS if step[:3] == "ipc"])
    step = kernel.hosted.step

    def stepped(*arguments: Any) -> int:
        note("server.hosted_step")
        return int(step(*arguments))

    kernel.hosted.step = stepped
    made.run()
    assert made.processes[0].exit_code == 0
    first = [entry[0] for entry in seen[: [entry[0] for entry in seen].index("ipc.reply") + 1]]
    assert list(dict.fromkeys(first)) == STEPS

    # At `load` the block does not have the page's EAX yet, or by chance; at `call` it has.
    assert all(page == block for kind, page, block in seen if kind == "ipc.call")
    assert any(page != block for kind, page, block in seen if kind == "ipc.save"), "the page has it after that"


def test_the_host_calls_of_a_hosted_server_have_names_of_their_own(session: Sessions, image: Path) -> None:
    made = begun(session, image)
    made.run()
    calls = made.system.machine.ledger.counts().host_calls
    assert calls["server.hosted_step"] > calls["server.lock_blocks"] > 0
    assert calls["server.lock_blocks"] >= calls["server.unlock_blocks"] > 0
    assert calls["system.open"] == 1
    assert calls["system.map_file"] >= 1
    assert not {"server", "system"} & set(calls)


def test_bytes_of_a_hosted_servers_memory_are_booked_without_the_message_page(session: Sessions, image: Path) -> None:
    made = begun(session, image)
    before = made.system.machine.ledger.counts()
    made.run()
    spent = made.system.machine.ledger.counts() - before
    assert spent.requests == spent.host_calls["server.hosted_step"] == 3, "open, read, close, without a gate call"
    # The block, what stands in for it in the reply, count and error; the path; the sectors of the file's pages.
    each = size_of(HostedBlock) + 7 * 4 + 2 * 4 + 4
    assert spent.server_bytes == 3 * each + len("FILE.BIN") + 8 * SIZE // 4096


def test_bytes_that_ring_3_touches_are_booked_to_the_kind_of_process(session: Sessions, image: Path) -> None:
    made = begun(session, image)
    ledger = made.system.machine.ledger
    kinds: list[str] = []
    made.system.machine.stream.subscribe(lambda _event: kinds.append(ledger.user_kind), kinds=["ipc.call"])
    made.run()
    assert set(kinds) == {"server"}
    assert ledger.counts().cpu_file_bytes == {"kernel": 0, "server": 0, "client": SIZE}


def test_loaded_programs_and_probed_blocks_are_booked(boot: Any, fat_image: Callable[..., Path]) -> None:
    program = program_image("hello").elf(debug=False)
    run = boot("/d0/hello", fat_image({"hello": program}))
    counts = run.system.machine.ledger.counts()
    assert b"hello" in run.output
    assert counts.program_bytes >= len(program)
    assert counts.metadata_bytes >= 64 << 10, "what volumes are recognised by"
