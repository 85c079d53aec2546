"""Keeping the pages of a moment fails or is interrupted at any line: all is noted or nothing, each moment is right."""

import sys

import pytest
from callgate.kernel.abi.memory import HIGH_MEMORY, PAGE_SIZE
from callgate.kernel.machine.memory import lent_views, page_code, page_versions, ram
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.page_store import NO_PAGE, PageStore, content
from callgate.kernel.machine.memory.page_versions import PageVersions
from callgate.kernel.machine.memory.ram import Backing, Ram

PAGES = [0, PAGE_SIZE, 2 * PAGE_SIZE, HIGH_MEMORY, HIGH_MEMORY + PAGE_SIZE]
TRACED = {module.__file__ for module in (lent_views, page_versions, page_code, ram)}
LINES = 400  # more than there are


@pytest.fixture
def memory():
    made = Ram(8 * PAGE_SIZE, 2 * PAGE_SIZE)
    yield made
    made.close()


def shown(memory):
    return [memory.read(page, PAGE_SIZE, Account.MACHINE) for page in PAGES]


def change(memory, value):
    for page in PAGES[value // 2 % 2 :: 2]:
        memory.write(page, bytes([value % 3]) * 16, Account.MACHINE)


def picture(versions):
    """Return all that versions say, and how much room there is."""
    moments = [(key, versions.changed_at(key)) for key in versions.keys]
    known = {page: each for page, each in versions.pages.items() if each.keys}
    pages = {page: [(key, content(each.at(key))) for key in each.keys] for page, each in known.items()}
    last = [[content(page) for page in each.kept if page != NO_PAGE] for each in versions.last]
    return moments, pages, last, versions.current, versions.stored, len(versions.store.free)


def interrupted(function, line):
    """Call a function, and interrupt it before the line of those that it executes; return whether there was one."""
    left = line

    def trace(frame, event, _argument):
        nonlocal left
        if frame.f_code.co_filename not in TRACED:
            return None
        left -= event == "line"
        if event == "line" and not left:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize(
    ("copies", "between"),
    [(0, False), *(pytest.param(*each, marks=pytest.mark.thorough) for each in ((128, False), (0, True), (128, True)))],
)
def test_a_moment_that_is_interrupted_at_any_line_is_noted_as_a_whole_or_not_at_all(
    memory, copies, between, monkeypatch
):
    monkeypatch.setattr(page_versions, "COPIES", copies)
    monkeypatch.setattr(page_versions, "MARKED_COPIES", copies)
    monkeypatch.setattr(page_versions, "MOST_TO_SORT", 1)
    versions = PageVersions(memory, 0)
    known, outcomes, whole = {0: shown(memory)}, set(), 0
    if between:  # what comes now comes before a moment of which both pages and their zeros are known
        change(memory, 1)
        versions.keep(LINES)
        known[LINES] = shown(memory)
        versions.go(0)
    for line in range(1, LINES):
        change(memory, line)
        before, now = picture(versions), shown(memory)
        if interrupted(lambda key=line: versions.keep(key), line):
            outcomes.add(versions.has(line))
            whole = 0
        else:
            assert versions.has(line)
            whole += 1
            if whole == 12:  # after which changes repeat themselves, and how many lines they take
                break
        assert shown(memory) == now
        if not versions.has(line):
            assert picture(versions) == before
            versions.keep(line)
        known[line] = now
    assert outcomes == {False, True}
    assert 30 < line < LINES - 1
    for key in (*known, *reversed(known)):
        versions.go(key)
        assert shown(memory) == known[key]


def test_memory_can_be_looked_at_whatever_line_of_the_search_for_views_that_are_held_is_interrupted(memory):
    line, again = 0, True
    while again:
        line += 1
        memory.write(HIGH_MEMORY, b"seen", Account.MACHINE)
        again = interrupted(memory.lent.check, line)
        memory.regions[1].newly_marked()
        assert memory.read(HIGH_MEMORY, 4, Account.MACHINE) == b"seen"
        memory.lent.check()
    assert 5 < line < LINES


def test_a_way_to_another_moment_that_is_interrupted_at_any_line_leaves_all_moments_as_they_were(memory, monkeypatch):
    monkeypatch.setattr(page_versions, "COPIES", 0)
    versions = PageVersions(memory, 0)
    known = {0: shown(memory)}
    for key in (1, 2, 4, 5):
        change(memory, key)
        versions.keep(key)
        known[key] = shown(memory)
    line, key = 0, 0
    while line < LINES:
        line += 1
        versions.go(5 - key)
        if not interrupted(lambda there=key: versions.go(there), line) and key:
            break
        versions.go(5 - key)
        assert shown(memory) == known[5 - key], line
        key = 5 - key
    assert 30 < line < LINES
    for key, content_then in known.items():
        versions.go(key)
        assert shown(memory) == content_then


@pytest.mark.parametrize("error", [MemoryError, OSError])
def test_a_moment_for_which_the_host_has_no_room_is_not_noted(memory, error, monkeypatch):
    versions = PageVersions(memory, 0)
    change(memory, 1)
    versions.keep(1)
    del versions.store.free[1:]
    before = picture(versions)[:-1]
    change(memory, 2)
    grow = PageStore._grow

    def refuse(_store):
        raise error

    monkeypatch.setattr(PageStore, "_grow", refuse)
    with pytest.raises(error):
        versions.keep(2)
    assert picture(versions)[:-1] == before
    monkeypatch.setattr(PageStore, "_grow", grow)
    versions.keep(2)
    now = shown(memory)
    versions.go(1)
    versions.go(2)
    assert shown(memory) == now


@pytest.mark.parametrize("after", range(4))
def test_moments_are_right_when_the_host_has_no_room_for_the_file(memory, after, monkeypatch):
    monkeypatch.setattr(page_versions, "COPIES", 0)
    versions = PageVersions(memory, 0)
    known = {0: shown(memory)}
    for key in (1, 2):
        change(memory, key)
        known[key] = shown(memory)
        versions.keep(key)
    memory.write(PAGES[0], b"three", Account.MACHINE)
    memory.write(PAGES[2], b"three", Account.MACHINE)
    known[3] = shown(memory)
    left, write = after, Backing.write

    def fail_later(backing, offset, data):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(28, "no room for a page")
        write(backing, offset, data)

    monkeypatch.setattr(Backing, "write", fail_later)
    if after < 2:
        with pytest.raises(OSError, match="no room for a page"):
            versions.keep(3)
    else:
        versions.keep(3)
    monkeypatch.setattr(Backing, "write", write)
    assert versions.has(3)
    memory.write(PAGES[0], b"four", Account.MACHINE)
    known[4] = shown(memory)
    for key in (0, 3, 2, 0, 1, 3):
        if key == 0 and not versions.has(4):
            versions.keep(4)
        versions.go(key)
        assert shown(memory) == known[key]
    versions.go(4)
    assert shown(memory) == known[4]


def test_copies_that_are_compared_in_vain_again_and_again_are_written_to_the_file(memory, monkeypatch):
    monkeypatch.setattr(page_versions, "IN_VAIN", 5)
    versions = PageVersions(memory, 0)
    memory.write(0, b"once" * 2048)
    filed = []
    for key in range(1, 8):
        memory.put_u32(2 * PAGE_SIZE, key)
        versions.keep(key)
        filed.append(versions.filed[0])
    assert filed == [0, 0, 0, 4, 4, 4, 4], "two pages are compared in vain from the second moment on"
    assert memory.regions[0].written() == [(2 * PAGE_SIZE, 3 * PAGE_SIZE)]
