"""How many requests the shell's commands make of a server, how often they wait, how often the address space changes.

The counts are exact.  One that has changed is a change of the cost: write the new one here if it is intended.
"""

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageFile
from callgate.kernel.machine.observation.ledger import Counts
from callgate.kernel.system import System, SystemOptions

DIRECTORIES = 40  # more than the kernel keeps of those that no process has locked
KEPT = 32
LOCKS = DIRECTORIES + 1  # the directories, and the one that they lie in
LINKS = 70
LINKS_AT_ONCE = 32
Costs = Callable[..., Counts]


def run(image: Path, commands: str) -> tuple[Counts, str]:
    """Return what a run costs, and what it prints."""
    output: list[bytes] = []
    with System([ImageFile(image)], SystemOptions(commands=commands, output=output.append)) as system:
        system.run()
        assert system.exit_code == 0
        assert system.kernel.check() == []
        return system.machine.ledger.counts(), b"".join(output).decode()


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Costs:
    """Return what a command costs after others, which take it to the same state."""
    folder = tmp_path_factory.mktemp("commands")
    for number in range(DIRECTORIES):
        (folder / "tree" / f"D{number:02}").mkdir(parents=True)
        (folder / "tree" / f"D{number:02}" / "F.TXT").write_bytes(b"x" * number)
    (folder / "many").mkdir()
    for number in range(60):
        (folder / "many" / f"{number:02}.TXT").write_bytes(b"y" * number)
    (folder / "BIG.BIN").write_bytes(bytes(range(256)) * (4 << 12))
    image = folder.with_suffix(".img")
    create_image(image, folder, fs="fat16", size=32 << 20)

    def spent(command: str, *earlier: str) -> Counts:
        before = "; ".join(("cd /d0", *earlier))
        return run(image, f"{before}; {command}")[0] - run(image, before)[0]

    return spent


def test_a_listing_is_one_request_for_all_its_entries_and_none_again(costs: Costs) -> None:
    """There is nothing that a batch could save."""
    first, again = costs("ls -l many"), costs("ls -l many", "ls -l many")
    assert (first.requests, first.fast_requests) == (1, 1)
    assert first.blocking_waits == 2, "the client's for the reply, and the server's for the disk"
    assert (again.requests, again.blocking_waits, again.cr3_loads) == (0, 0, 0)
    assert "resume" not in again.host_calls


def test_a_listing_asks_for_the_targets_of_its_links_in_few_requests(tmp_path: Path) -> None:
    image = tmp_path / "links.zip"
    with zipfile.ZipFile(image, "w") as archive:
        for number in range(LINKS):
            entry = zipfile.ZipInfo(f"l{number:02}")
            entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, f"target {number}")
    before, _ = run(image, "cd /d0; ls")
    after, output = run(image, "cd /d0; ls; ls -l")
    spent = after - before
    assert [line.partition(" -> ")[2] for line in output.splitlines() if " -> " in line] == [
        f"target {number}" for number in range(LINKS)
    ]
    assert spent.requests == -(-LINKS // LINKS_AT_ONCE), "each of them was a request of its own"
    assert spent.cr3_loads == 2 * spent.requests, "the way there and back"


def test_a_walk_makes_a_request_for_each_directory_and_tells_of_those_given_back_in_batches(costs: Costs) -> None:
    spent = costs("tree tree")
    unlocked = DIRECTORIES + 2 - KEPT  # `cd` has locked the root
    assert spent.batched_requests == unlocked
    assert spent.requests == LOCKS + 2 + 1, "what the volume is, and one message that tells of all"
    again = costs("tree tree", "tree tree")
    assert (again.requests, again.batched_requests) == (LOCKS + 1 + 2, DIRECTORIES + 1)
    assert again.cr3_loads == 2 * again.requests, "the way there and back"


def test_a_file_that_is_read_in_turn_is_asked_for_ahead_of_its_reader(costs: Costs) -> None:
    """One READ is waited for; the others are posted, several before the server runs, which takes them in one turn."""
    spent = costs("crc32 BIG.BIN")
    assert spent.host_calls["file_ready"] == 3
    assert spent.requests == 1 + 3 + 1, "OPEN, READ, CLOSE"
    assert spent.blocking_waits == 2, "for the answer to OPEN, and for the first data"
    assert spent.cr3_loads == 11, "interrupts of the disk among them"
