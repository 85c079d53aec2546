"""Programs that have files open to be written ask for more writable pages than there are, or more often."""

from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.limits import CHANGED_BLOCKS_OF_FAMILY_PART, CHANGED_BLOCKS_PART
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.servers import volumes

HELD = 0
BLOCKS = 512
SHARE = BLOCKS // CHANGED_BLOCKS_PART // CHANGED_BLOCKS_OF_FAMILY_PART
IMAGE = synthetic.disk(4096)
RESULT_ACROSS, STORE_ACROSS, MANY_WINDOWS, RESULT_PAST_WINDOW = range(4)
Arenas = Callable[..., Any]


@pytest.fixture
def attacked(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> Arenas:
    """Make an arena with a scribe and a victim, and a file of 400 pages that are blocks of the disk."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    monkeypatch.setattr(synthetic.Synthetic, "attributes", FileAttributes(0))
    monkeypatch.setattr(synthetic.Synthetic, "files", {"f": synthetic.Layout(400 * PAGE_SIZE, [(64, 3200)])})

    def make(attack: int, pages: int) -> Any:
        made = arena(MemoryMedium(IMAGE), scratch=True, high_memory=BLOCKS * PAGE_SIZE)
        made.victim()
        made.attacker("scribe", ATTACK=attack, PAGES=pages)
        return made

    return make


@pytest.mark.timeout(30)
@pytest.mark.parametrize("attack", [RESULT_ACROSS, STORE_ACROSS])
@pytest.mark.parametrize("left", [0, 1])
def test_a_write_to_two_pages_with_room_for_one_is_refused(attacked: Arenas, attack: int, left: int) -> None:
    """The room for one would be given to the other and back for ever: in a host call, or by page faults."""
    made = attacked(attack, SHARE - left)
    assert made.run(10_000_000).reason == "halt"
    assert made.results == [HELD], made.log
    assert made.kernel.check() == [], "what the family has changed stays its own although it has ended"
    made.assert_unharmed()


@pytest.mark.timeout(30)
def test_a_result_that_would_pass_the_end_of_a_file_or_of_its_window_is_refused(attacked: Arenas) -> None:
    """A window has a page more than the file's bytes need, so that the two ends are not the same."""
    made = attacked(RESULT_PAST_WINDOW, 1)
    assert made.run(10_000_000).reason == "halt"
    assert made.results == [HELD], made.log
    made.assert_unharmed()


def test_a_block_that_is_mapped_to_be_written_counts_once_for_each_window(
    attacked: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise taking pages back, which is one host call, would have no bound: windows times blocks."""
    monkeypatch.setitem(synthetic.Synthetic.files, "f", synthetic.Layout(100 * PAGE_SIZE, [(64, 800)]))
    made = attacked(MANY_WINDOWS, 0)
    windows, cache = made.kernel.mapping, made.kernel.cache.state
    get, counted = windows.map, []

    def watched(*which: Any) -> None:
        get(*which)
        spans = [span for file in made.kernel.files.objects.values() for span in file.spans]
        claims = [key for span in spans for claimed in span.users.values() for key in claimed.values()]
        counted.append((len(claims), len(set(claims)), cache.claimed))

    windows.map = watched
    assert made.run(10_000_000).reason == "halt"
    assert made.results == [HELD], made.log
    assert counted[-1][0] == counted[-1][2] == SHARE
    assert counted[-1][1] < SHARE, "the same blocks in many windows"
    made.assert_unharmed()
