"""The map of memory: every page has one owner, and address spaces are what the CPU's page tables say."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from browser import Page
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import open_image
from callgate.kernel.abi.memory import HIGH_MEMORY, KERNEL_LOAD, PAGE_SIZE
from callgate.kernel.system import System, SystemOptions
from callgate.tools.pictures.memory.show import as_html, as_svg, as_text
from callgate.tools.pictures.memory.survey import FREE, UNDER_WAY, Survey, survey

from tests.tools.pictures.test_sequence_diagram import MEASURE, SVG


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """A system at the prompt, after a directory and a file have been read."""
    with System([open_image(demo_image(cache_directory()))], SystemOptions()) as made:
        made.run(until="ipc.map")  # policy is under way
        made.run(fuel=100_000_000)
        made.machine.serial.feed(b"dir; cat README.TXT; cat PATTERN.BIN\n")
        made.run(fuel=60_000)
        yield made


@pytest.fixture(scope="module")
def found(system: System) -> Survey:
    return survey(system)


def test_the_owners_pages_add_up_to_the_memory_and_no_page_is_left_out(system: System, found: Survey) -> None:
    for high, size, base in ((False, system.options.memory, 0), (True, system.options.high_memory, HIGH_MEMORY)):
        runs = [run for run in found.runs if (run.first >= HIGH_MEMORY) == high]
        assert runs[0].first == base
        assert all(run.first + run.pages * PAGE_SIZE == after.first for run, after in pairwise(runs))
        assert sum(pages for _, pages in found.owners(high=high)) * PAGE_SIZE == size


def test_free_pages_are_those_that_the_pools_can_give(system: System, found: Survey) -> None:
    state = system.kernel.state
    for pool, high in ((state.low, False), (state.high, True)):
        owners = dict(found.owners(high=high))
        assert owners[FREE] == pool.available
        assert UNDER_WAY not in owners, "no policy is under way, so every page has an owner by name"
    used = {run.first for run in found.runs if run.owner != FREE}
    assert KERNEL_LOAD in used


def test_blocks_of_disks_and_files_are_those_of_the_cache(system: System, found: Survey) -> None:
    owners = dict(found.owners(high=True))
    assert sum(pages for owner, pages in owners.items() if owner != FREE) == len(system.kernel.cache.state.blocks)
    assert any(owner.startswith("blocks of open file") for owner in owners), "the file is being read"
    assert "blocks of disk d0" in owners


def test_address_spaces_are_what_a_walk_of_the_page_tables_finds(system: System, found: Survey) -> None:
    mapped = 0
    for space in found.spaces:
        for one in space.ranges:
            linear = one.linear
            for physical, pages in one.pieces:
                for index in (0, pages // 2, pages - 1):
                    walk = system.machine.paging.walk(linear + index * PAGE_SIZE, space.pointers)
                    assert walk.physical == physical + index * PAGE_SIZE
                    rights = f"r{'-w'[walk.writable]}{'-x'[walk.executable]} ring {3 if walk.user else 0}"
                    assert rights == one.rights
                linear += pages * PAGE_SIZE
            assert linear == one.linear + one.pages * PAGE_SIZE
            mapped += one.pages
            after = system.machine.paging.walk(linear & 0xFFFF_FFFF, space.pointers)
            neighbour = next((other for other in space.ranges if other.linear == linear), None)
            assert after.physical is None or neighbour is not None or linear == 1 << 32
    assert mapped > system.options.memory // PAGE_SIZE


def test_every_page_of_ring_3_that_is_mapped_has_an_owner_that_is_not_free(system: System, found: Survey) -> None:
    owner = {run.first + index * PAGE_SIZE: run.owner for run in found.runs for index in range(run.pages)}
    of_processes = Counter(
        owner[physical + index * PAGE_SIZE].partition(" of ")[0]
        for space in found.spaces[:-1]
        for one in space.ranges
        for physical, pages in one.pieces
        for index in range(pages)
    )
    assert FREE not in of_processes
    assert {"program", "stack", "arguments", "memory"} <= set(of_processes)


def test_the_text_has_a_line_for_each_owner_and_range(found: Survey) -> None:
    text = as_text(found)
    owners = [(int(pages), owner) for pages, owner in re.findall(r"^ +(\d+) +\d+  (.+)$", text, re.MULTILINE)]
    assert sum(pages for pages, _ in owners) == (found.low + found.high) // PAGE_SIZE
    ranges = re.findall(r"^  ([0-9a-f]{8})-([0-9a-f]{8})  (r[w-][x-] ring [03]) +(\d+) pages", text, re.MULTILINE)
    assert len(ranges) == sum(len(space.ranges) for space in found.spaces)
    assert all((int(end, 16) + 1 - int(first, 16)) // PAGE_SIZE == int(pages) for first, end, _, pages in ranges)


def test_the_picture_shows_each_page_in_use_once(found: Survey) -> None:
    tree = ET.fromstring(as_svg(found))
    cells = [one for one in tree.iter(f"{SVG}rect") if one.get("class") == "cell"]
    used = sum(run.pages for run in found.runs if run.owner != FREE)
    assert sum(int(one.get("width", "0")) for one in cells) == used * 4
    assert len({(one.get("x"), one.get("y")) for one in cells}) == len(cells)


def test_the_page_has_no_script_and_escapes_names(found: Survey) -> None:
    space = found.spaces[0]
    hostile = type(space)("<img src=x onerror=alert(1)>", space.pointers, space.ranges)
    text = as_html(Survey(found.low, found.high, found.clock, found.runs, [hostile]))
    tags: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            tags.append(tag)

    Parser().feed(text)
    assert not {"script", "img", "link", "iframe"} & set(tags)
    assert "default-src 'none'" in text


@pytest.mark.thorough(only=True)
def test_the_page_of_a_map_is_shown_with_its_styles_and_asks_nothing_of_the_network(
    found: Survey, show: Callable[[str, str], Page]
) -> None:
    page = show("map.html", as_html(found))
    assert page.evaluate("getComputedStyle(document.querySelector('svg .name')).fontWeight") == "700"
    assert page.evaluate("document.querySelectorAll('details').length") == len(found.spaces)
    assert [address.rpartition("/")[2] for address in page.requested] == ["map.html"]
    assert page.complaints == []
    picture = show("map.svg", as_svg(found))
    assert picture.evaluate(MEASURE) == []


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("form", ["txt", "svg", "html"])
def test_each_format_of_a_map_is_the_same_each_time_and_replaces_only_itself(
    command_line: Callable[..., Any], form: str
) -> None:
    first = command_line("map", "-q", "-c", "cat README.TXT; false", "-o", f"m.{form}")
    written = Path(f"m.{form}").read_bytes()
    assert (first.status, first.stdout) == (1, b"")
    assert command_line("map", "-q", "-c", "cat README.TXT; false", "-o", f"m.{form}").status == 1
    assert Path(f"m.{form}").read_bytes() == written
    Path(f"m.{form}").write_text("mine\n")
    assert command_line("map", "-q", "-o", f"m.{form}").status == 2
    assert Path(f"m.{form}").read_text() == "mine\n"


def test_a_map_of_an_unfinished_boot_is_made_and_one_of_no_image_refused(command_line: Callable[..., Any]) -> None:
    middle = command_line("map", "-q", "--fuel", "5000")
    assert (middle.status, b"kernel image .text" in middle.stdout) == (4, True)
    early = command_line("map", "-q", "--fuel", "10")
    assert (early.status, b"free" in early.stdout) == (4, True)
    assert command_line("map", "no.img").status == 5
    assert "did you mean m.html?" in " ".join(command_line("map", "-o", "m.htm").messages.split())
