"""Versions of pages: what RAM holds at each of many moments, against a plain copy of every moment."""

import os
import random
from pathlib import Path

import pytest
from callgate.kernel.abi.memory import HIGH_MEMORY, PAGE_SIZE
from callgate.kernel.machine.memory import page_code, page_map, page_store, page_versions
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.page_map import PageMap
from callgate.kernel.machine.memory.page_store import NO_PAGE, PageStore
from callgate.kernel.machine.memory.page_versions import PageVersions
from callgate.kernel.machine.memory.ram import Ram

PAGES = 16
LOW = [page * PAGE_SIZE for page in range(PAGES)]
HIGH = [HIGH_MEMORY + page * PAGE_SIZE for page in range(4)]


@pytest.fixture
def ram():
    ram = Ram(PAGES * PAGE_SIZE, 4 * PAGE_SIZE)
    yield ram
    ram.close()


def scribble(ram, dice):
    for _ in range(dice.randrange(5)):
        page = dice.choice(LOW + HIGH)
        value = dice.choice([b"\0", b"a", b"b"])  # so that pages become what they were, and zeros, again
        ram.write(page, value * PAGE_SIZE, Account.MACHINE)


def content(ram):
    return [ram.read(page, PAGE_SIZE, Account.MACHINE) for page in LOW + HIGH]


@pytest.fixture(params=["host code", "Python"])
def way(request, monkeypatch):
    """Pages are compared and kept by host code, or in Python as where there can be none."""
    if request.param == "Python":
        monkeypatch.setattr(page_code, "routine", lambda: None)
    elif page_code.routine() is None:
        pytest.skip("no host code can be made here")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("copies", [(0, 0), (0, page_versions.MARKED_COPIES), (4, 1), (page_versions.COPIES, 0)])
@pytest.mark.parametrize("seed", range(10))
def test_each_moment_comes_back_after_any_order_of_keeping_going_and_dropping(ram, seed, copies, monkeypatch):
    monkeypatch.setattr(page_versions, "COPIES", copies[0])
    monkeypatch.setattr(page_versions, "MARKED_COPIES", copies[1])
    dice = random.Random(seed)
    scribble(ram, dice)
    versions = PageVersions(ram, 0)
    known = {0: content(ram)}
    for _ in range(60):
        what = dice.randrange(4)
        if what == 0:
            target = dice.choice(list(known))
            versions.go(target)
            assert content(ram) == known[target]
        elif what == 1 and len(known) > 2:
            unused = [key for key in known if not versions.in_use(key)]
            if unused:
                versions.drop(unused[0])
                del known[unused[0]]
        else:
            later = [key for key in known if key > versions.current]
            key = (versions.current + min(later)) / 2 if later else versions.current + 1
            scribble(ram, dice)
            versions.keep(key)
            known[key] = content(ram)
    for key in dice.sample(list(known), len(known)):
        versions.go(key)
        assert content(ram) == known[key]
    held = sum(kept != NO_PAGE for page in versions.pages.values() for kept in page.kept)
    assert versions.stored == held * PAGE_SIZE


def test_a_moment_takes_what_was_written_since_the_one_before(ram):
    versions = PageVersions(ram, 0)
    ram.write(3 * PAGE_SIZE, b"x")
    versions.keep(1)
    ram.write(5 * PAGE_SIZE, b"y")
    versions.keep(2)
    changed = {key: versions.changed_at(key) for key in versions.keys}
    assert changed == {0: set(), 1: {3 * PAGE_SIZE}, 2: {5 * PAGE_SIZE}}
    assert versions.stored == 2 * PAGE_SIZE


def mapped_file(region) -> str:
    """Return the name of the file that a region shows, from Linux's own list; nothing for anonymous memory."""
    for line in Path("/proc/self/maps").read_text("ascii").splitlines():
        bounds, *_, name = f"{line} ".split(" ", 5)
        if int(bounds.split("-")[0], 16) <= region.address < int(bounds.split("-")[1], 16):
            return name.strip()
    raise AssertionError("the region is not mapped")


def test_ram_is_anonymous_memory_until_a_snapshot_maps_a_file_and_both_hold_the_same(ram):
    region = ram.regions[0]
    ram.write(3 * PAGE_SIZE, b"x")
    assert not mapped_file(region)
    backing = region.freeze()
    assert "memfd:callgate-low" in mapped_file(region)
    assert ram.read(3 * PAGE_SIZE, 1) == b"x"
    ram.write(3 * PAGE_SIZE, b"y")
    region.rebase(backing)
    assert (ram.read(3 * PAGE_SIZE, 1), ram.read(4 * PAGE_SIZE, 1)) == (b"x", b"\0")


def test_a_moment_follows_a_snapshot_that_was_restored_in_between(ram):
    ram.write(0, b"before")
    other = [region.freeze() for region in ram.regions]
    versions = PageVersions(ram, 0)
    ram.write(0, b"after!")
    ram.write(2 * PAGE_SIZE, b"more")
    versions.keep(1)
    for region, backing in zip(ram.regions, other, strict=True):
        region.rebase(backing)
    versions.keep(2)
    versions.go(1)
    assert (ram.read(0, 6), ram.read(2 * PAGE_SIZE, 4)) == (b"after!", b"more")
    versions.go(2)
    assert (ram.read(0, 6), ram.read(2 * PAGE_SIZE, 4)) == (b"before", bytes(4))


def test_both_ways_of_asking_the_host_find_the_same_pages(ram, monkeypatch):
    versions = PageVersions(ram, 0)
    for page in (1, 2, 3, 7, 15):
        ram.write(page * PAGE_SIZE, b"z")
    assert ram.read(9 * PAGE_SIZE, 1) == b"\0"
    region = ram.regions[0]
    expected = [(PAGE_SIZE, 4 * PAGE_SIZE), (7 * PAGE_SIZE, 8 * PAGE_SIZE), (15 * PAGE_SIZE, 16 * PAGE_SIZE)]
    assert region.written() == expected

    def too_old(*_arguments):
        raise OSError(25, "inappropriate ioctl for device")

    monkeypatch.setattr(PageMap, "_scanned", too_old)
    assert region.written() == expected
    assert versions.current == 0


def test_a_moment_that_is_in_use_or_not_later_is_refused(ram):
    versions = PageVersions(ram, 5)
    versions.keep(6)
    with pytest.raises(ValueError, match="4 does not come after 6"):
        versions.keep(4)
    with pytest.raises(ValueError, match="6 does not come after 6"):
        versions.keep(6)
    for key in (5, 6):
        with pytest.raises(ValueError, match="is in use"):
            versions.drop(key)


def test_files_are_written_only_where_there_are_many_copies(ram, monkeypatch):
    monkeypatch.setattr(page_versions, "COPIES", 2)
    versions = PageVersions(ram, 0)
    region = ram.regions[0]
    ram.write(0, b"x")
    versions.keep(1)
    assert (versions.filed[0], region.written()) == (0, [(0, PAGE_SIZE)])
    ram.write(PAGE_SIZE, b"y" * (2 * PAGE_SIZE))
    versions.keep(2)
    assert (versions.filed[0], region.written()) == (2, [])
    assert [ram.read(page * PAGE_SIZE, 1) for page in range(3)] == [b"x", b"y", b"y"]
    versions.keep(3)
    with pytest.raises(ValueError, match="2 is in use"):
        versions.drop(2)


def test_a_page_whose_only_content_was_dropped_is_compared_with_zeros(ram):
    versions = PageVersions(ram, 0)
    ram.write(0, b"x")
    versions.keep(1)
    versions.go(0)
    versions.drop(1)
    ram.write(0, b"\0")
    versions.keep(2)
    assert versions.changed_at(2) == set()
    ram.write(0, b"y")
    versions.keep(3)
    assert versions.changed_at(3) == {0}


def test_a_process_that_was_forked_asks_for_its_own_pages(ram):
    versions = PageVersions(ram, 0)
    region = ram.regions[0]
    ram.write(0, b"x")
    assert region.written() == [(0, PAGE_SIZE)]
    child = os.fork()
    if not child:
        ram.write(3 * PAGE_SIZE, b"y")
        os._exit(region.written() != [(0, PAGE_SIZE), (3 * PAGE_SIZE, 4 * PAGE_SIZE)])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (region.written(), versions.current) == ([(0, PAGE_SIZE)], 0)


@pytest.mark.usefixtures("way")
def test_pages_that_differ_anywhere_are_kept_and_pages_of_zeros_take_no_room(ram):
    region, store = ram.regions[0], PageStore()
    last = page_code.LastPages(store, region.address, region.size)
    places = [0, 1, 63, 64, 2047, PAGE_SIZE - 64, PAGE_SIZE - 1]
    for number, place in enumerate(places, 1):
        ram.write(number * PAGE_SIZE + place, b"\x80")
    everything = [(0, 2 * PAGE_SIZE), (2 * PAGE_SIZE, PAGES * PAGE_SIZE)]
    found = last.keep(everything)
    assert list(found.numbers) == list(range(1, len(places) + 1))
    assert found.kept == last.kept[1 : len(places) + 1]
    for number, place in enumerate(places, 1):
        assert page_store.content(last.kept[number]) == bytes(place) + b"\x80" + bytes(PAGE_SIZE - 1 - place)
    assert len(set(last.kept)) == len(places) + 1, "a page for each, and none for zeros"
    room = len(store.free)
    assert list(last.keep(everything).numbers) == []
    ram.write(3 * PAGE_SIZE, bytes(PAGE_SIZE))
    ram.write(5 * PAGE_SIZE, b"more")
    found = last.keep([(3 * PAGE_SIZE, 4 * PAGE_SIZE), (6 * PAGE_SIZE, 7 * PAGE_SIZE)])
    assert (list(found.numbers), list(found.kept)) == ([3], [NO_PAGE]), "those of runs only"
    assert list(last.keep(everything).numbers) == [5]
    assert (last.kept[3], len(store.free)) == (NO_PAGE, room - 1)


def test_what_many_moments_have_noted_is_sorted_a_few_at_a_time(ram):
    versions = PageVersions(ram, 0)
    waiting = []
    for key in range(1, 3 * page_versions.MOST_TO_SORT):
        ram.put_u32(key % 5 * PAGE_SIZE, key)
        versions.keep(key)
        waiting.append(len(versions.to_sort))
    assert max(waiting) == page_versions.MOST_TO_SORT - 1
    for key in (7, 3 * page_versions.MOST_TO_SORT - 1, page_versions.MOST_TO_SORT):
        versions.go(key)
        assert ram.u32(key % 5 * PAGE_SIZE) == key


def test_room_for_pages_grows_by_chunks_and_is_used_again(ram):
    store = PageStore()
    address = ram.regions[0].address
    ram.write(0, b"x")
    pages = [store.put(address) for _ in range(3)]
    assert len({*pages}) == 3
    free = len(store.free)
    store.drop(pages[1])
    assert store.put(address) == pages[1]
    store.make_room(free + 1)
    assert (len(store.chunks), len(store.free)) == (2, free + len(pages) + free)
    store.drop(NO_PAGE)
    assert NO_PAGE not in store.free


@pytest.mark.parametrize("runs_at_once", [0, 2, 100])
def test_a_host_that_tells_the_copies_in_several_answers_or_not_at_all_is_asked_in_another_way(
    ram, monkeypatch, runs_at_once
):
    if not runs_at_once:
        monkeypatch.setattr(page_map, "PAGEMAP_SCAN", 0)  # which this host does not know
    versions = PageVersions(ram, 0)
    ram.regions[0].page_map.scan.vector_length = runs_at_once
    for page in (1, 3, 5):
        ram.write(page * PAGE_SIZE, b"z")
    asked, plain = [], PageMap.private_copies
    monkeypatch.setattr(PageMap, "private_copies", lambda self: asked.append(self) or plain(self))
    versions.keep(1)
    assert bool(asked) is (runs_at_once < 100)
    ram.write(3 * PAGE_SIZE, b"y")
    versions.keep(2)
    versions.go(1)
    assert [ram.read(page * PAGE_SIZE, 1) for page in range(6)] == [b"\0", b"z", b"\0", b"z", b"\0", b"z"]
