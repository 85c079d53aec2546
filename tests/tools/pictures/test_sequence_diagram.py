"""The sequence diagram: read by an XML parser, and measured in a browser."""

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from browser import Page
from callgate.kernel.abi.calls import Operation
from callgate.tools.pictures.records import RunRecord
from callgate.tools.pictures.sequence import colour_of, draw
from callgate.tools.pictures.svg import CHARACTER, printable

SVG = "{http://www.w3.org/2000/svg}"
#: Pairs of texts that cover each other, and texts that leave the picture.
MEASURE = """(() => {
  const boxes = [...document.querySelectorAll("text")].map((text) => [text.getBBox(), text.textContent]);
  const picture = document.documentElement.viewBox.baseVal;
  const found = boxes.filter(([box]) => box.x < 0 || box.x + box.width > picture.width).map(([, words]) => words);
  boxes.sort((one, other) => one[0].y - other[0].y);
  boxes.forEach(([one, words], index) => {
    for (const [other, more] of boxes.slice(index + 1)) {
      if (other.y >= one.y + one.height - 2) break;
      if (other.x < one.x + one.width && one.x < other.x + other.width) found.push(`${words} / ${more}`);
    }
  });
  return found;
})()"""


@pytest.fixture
def tree(recording: RunRecord) -> ET.Element:
    return ET.fromstring(draw(recording))


def titles(tree: ET.Element, name: str) -> list[str]:
    return [
        found.findtext(f"{SVG}title", "")
        for found in tree.iter(f"{SVG}{name}")
        if found.find(f"{SVG}title") is not None
    ]


def test_each_request_has_arrows_to_the_slot_to_the_server_and_back(recording: RunRecord, tree: ET.Element) -> None:
    rows = list(tree.iter(f"{SVG}g"))
    labels = [[text.text or "" for text in row.iter(f"{SVG}text")][1] for row in rows]
    solid = [any(path.get("class") == "line ask" for path in row.iter(f"{SVG}path")) for row in rows]
    dashed = [any(path.get("class") == "line reply" for path in row.iter(f"{SVG}path")) for row in rows]
    for request in recording.requests:
        mine = [index for index, label in enumerate(labels) if label.startswith(f"#{request.number} ")]
        assert [solid[index] for index in mine].count(True) == 2, labels
        assert [dashed[index] for index in mine].count(True) == (1 if request.posted else 2)
        assert labels[mine[0]].split()[1] == request.operation


def test_rows_are_in_the_order_of_virtual_time_and_name_it(recording: RunRecord, tree: ET.Element) -> None:
    clocks = [int(row.findtext(f"{SVG}text") or -1) for row in tree.iter(f"{SVG}g")]
    assert clocks == sorted(clocks)
    assert {command.begun for command in recording.commands} <= set(clocks)
    assert {call.clock for call in recording.system_calls} <= set(clocks)


def test_every_host_call_is_named_in_a_tooltip(recording: RunRecord, tree: ET.Element) -> None:
    said = "\n".join(titles(tree, "g")).splitlines()
    for call in recording.host_calls:
        assert f"{call.clock} ns {call.name}" in said


def test_a_diagram_has_no_script_and_no_reference_to_anything_outside(tree: ET.Element) -> None:
    tags = {found.tag.removeprefix(SVG) for found in tree.iter()}
    assert tags <= {"svg", "title", "style", "rect", "line", "path", "text", "g"}
    attributes = {name for found in tree.iter() for name in found.attrib}
    assert not [name for name in attributes if name.startswith("on") or "href" in name]
    assert "url(" not in (tree.findtext(f"{SVG}style") or "url(")


def test_colours_belong_to_operations_whatever_else_a_run_does() -> None:
    colours = [colour_of(one.name) for one in Operation]
    assert len(set(colours)) == len(colours)
    assert colour_of("0x100") == colour_of("0x10c")


def test_text_that_xml_does_not_take_is_escaped() -> None:
    assert printable("a\0b\x1b\ud800\ufffe\u202eü\U0001f600\n") == r"a\u0000b\u001b\ud800\ufffe\u202eü" + "\U0001f600\n"


@pytest.mark.thorough(only=True)
def test_no_text_of_a_diagram_covers_another_or_leaves_the_picture(
    recording: RunRecord, show: Callable[[str, str], Page]
) -> None:
    page = show("a.svg", draw(recording))
    assert page.evaluate("document.querySelectorAll('text').length") > 100
    assert page.evaluate(MEASURE) == []
    assert page.complaints == []


def test_every_text_of_every_request_alone_ends_inside_the_picture(recording: RunRecord) -> None:
    for request in recording.requests:
        tree = ET.fromstring(draw(recording.only(request.number)))
        for text in tree.iter(f"{SVG}text"):
            if text.get("text-anchor") is None:
                assert float(text.get("x", "")) + CHARACTER * len(text.text or "") <= float(tree.get("width", ""))


def test_a_run_without_requests_is_a_picture_too() -> None:
    empty: Any = RunRecord(("a.img",), "true")
    assert ET.fromstring(draw(empty)).tag == f"{SVG}svg"
