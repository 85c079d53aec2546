"""The page to step through: its data, its safety, and what it does in a browser."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from browser import Page
from callgate.tools.pictures.page import draw
from callgate.tools.pictures.page_data import entry_bits, scene_of
from callgate.tools.pictures.records import RunRecord

from tests.tools.pictures.conftest import HOSTILE

browser_test = pytest.mark.thorough(only=True)
OUTSIDE = re.compile(
    r"\b(?:https?:)?//|\bimport\b|\burl\(|fetch\(|XMLHttpRequest|innerHTML|outerHTML|insertAdjacent|document\.write"
)


class Elements(HTMLParser):
    """The elements of a page in order, with their attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("", {}, ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, text) for found, attributes, text in self.found if found == tag]


@pytest.fixture
def elements(recording: RunRecord) -> Elements:
    return Elements(draw(recording))


def data_of(elements: Elements) -> Any:
    return next(json.loads(text) for attributes, text in elements.of("script") if attributes.get("type"))


def test_scenes_put_together_from_their_differences_are_those_of_the_recording(
    recording: RunRecord, elements: Elements
) -> None:
    for request, shown in zip(recording.requests, data_of(elements)["requests"], strict=True):
        scene: dict[str, Any] = {}
        for step, each in zip(request.steps, shown["steps"], strict=True):
            scene |= each["s"]
            plain = json.loads(json.dumps(scene_of(step.scene)))
            assert {key: scene[key] for key in plain} == plain
            assert (each["k"], each["t"], each["by"]) == (step.kind, step.clock, step.thread)


def test_what_the_tlb_may_hold_follows_from_the_mapping_and_from_invlpg(elements: Elements) -> None:
    request = data_of(elements)["requests"][0]
    said: dict[str, str] = {}
    scene: dict[str, Any] = {}
    for each in request["steps"]:
        scene |= each["s"]
        said[each["k"]] = scene["tlb"]
        present = int(scene["pte"][0], 16) & 1
        assert said[each["k"]].startswith("none") == (not present or each["k"] == "map"), each["k"]
    assert said["post"] == "none: the page is not mapped"
    assert said["map"] == "none: the page has not been touched since it was mapped"
    assert said["load"] == said["reply"] == "the server's accesses have loaded one"
    assert said["unmap"] == said["release"] == "none: INVLPG has been executed"


def test_names_from_outside_cannot_leave_the_data(recording: RunRecord, elements: Elements) -> None:
    text = draw(recording)
    assert HOSTILE not in text
    assert len(elements.of("script")) == 2
    assert not elements.of("img")
    data = data_of(elements)
    assert HOSTILE in data["command"]
    assert HOSTILE in {step["s"].get("data") for one in data["requests"] for step in one["steps"]}


def test_the_policy_of_a_page_allows_its_own_script_and_style_and_nothing_else(elements: Elements) -> None:
    policy = next(one["content"] for one, _ in elements.of("meta") if one.get("http-equiv"))
    rules = dict(rule.split(maxsplit=1) for rule in (policy or "").split("; "))
    script = next(text for attributes, text in elements.of("script") if not attributes)
    style = elements.of("style")[0][1]
    assert rules == {
        "default-src": "'none'",
        "script-src": f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'",
        "style-src": f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not OUTSIDE.search(script + style)
    assert not [name for _, attributes, _ in elements.found for name in attributes if name in ("src", "href", "style")]


def test_an_entry_of_a_page_table_is_said_in_words() -> None:
    assert entry_bits(0x8000_0000_0012_3067) == "0x123000 P W U A D NX"
    assert entry_bits(1 << 63) == "not present"


@browser_test
def test_arrow_keys_step_through_every_step_and_back(recording: RunRecord, show: Callable[[str, str], Page]) -> None:
    page = show("a.html", draw(recording))
    page.emulate(prefers_reduced_motion="reduce")
    said = "document.getElementById('said').textContent"
    lit = "document.querySelector('#pipeline [aria-current=step]').textContent"
    steps = [(request, step) for request in recording.requests for step in request.steps]
    spoken = []
    for number, (request, step) in enumerate(steps):
        if number:
            page.press("ArrowRight")
        spoken.append(page.evaluate(said))
        assert spoken[-1].startswith(f"Request {request.number}, {request.operation}")
        assert f"at {step.clock} ns" in spoken[-1]
    page.press("ArrowRight")
    assert page.evaluate(said) == spoken[-1], "the last step is the last"
    page.press("ArrowLeft")
    assert page.evaluate(said) == spoken[-2]
    page.press("Home")
    assert (page.evaluate(said), page.evaluate(lit)) == (spoken[0], "slot taken")
    page.press("ArrowDown")
    assert page.evaluate(said) == spoken[len(recording.requests[0].steps)]
    page.press("ArrowUp")
    assert page.evaluate(said) == spoken[0]
    assert page.complaints == []


@browser_test
def test_a_page_shows_the_registers_masks_and_entries_of_the_machine(
    recording: RunRecord, show: Callable[[str, str], Page]
) -> None:
    page = show("a.html", draw(recording))
    page.emulate(prefers_reduced_motion="reduce")
    for step in recording.requests[0].steps:
        scene = step.scene
        shown = page.evaluate("document.getElementById('kernel').innerText")
        registers = page.evaluate(
            "[...document.querySelectorAll('[data-key^=message]')].map((cell) => cell.textContent)"
        )
        assert registers == [f"{value:#010x}" for value in scene.message.registers]
        assert f"head {scene.endpoint.head}, tail {scene.endpoint.tail}" in shown
        assert scene.slot.state in shown
        server = page.evaluate("document.getElementById('server').innerText")
        assert f"{scene.page_entry:#018x}" in server
        bits = page.evaluate(
            "[...document.querySelectorAll('.bits')].map((row) => row.querySelectorAll('.set').length)"
        )
        waiting = scene.endpoint.tail - scene.endpoint.head
        masks = (scene.endpoint.free, scene.endpoint.unused, scene.endpoint.idle)
        assert bits == [masks[0].bit_count(), masks[1].bit_count(), waiting, masks[2].bit_count()]
        page.press("ArrowRight")


@browser_test
def test_registers_fly_between_the_columns_unless_motion_is_unwanted(
    recording: RunRecord, show: Callable[[str, str], Page]
) -> None:
    page = show("a.html", draw(recording))
    page.emulate(prefers_reduced_motion="no-preference")
    flying = "document.querySelectorAll('.flying').length"
    counts = []
    for _ in recording.requests[0].steps[1:]:
        page.press("ArrowRight")
        counts.append(page.evaluate(flying))
    moves = [6 if step.kind in ("fill", "call", "reply", "reload") else 0 for step in recording.requests[0].steps[1:]]
    assert counts == moves
    page.emulate(prefers_reduced_motion="reduce")
    page.press("Home")
    page.press("ArrowRight")
    assert page.evaluate(flying) == 0


@browser_test
def test_hostile_names_are_text_and_nothing_is_asked_of_the_network(
    recording: RunRecord, show: Callable[[str, str], Page]
) -> None:
    page = show("a.html", draw(recording))
    page.press("End")
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert HOSTILE in page.evaluate("document.getElementById('about').textContent")
    assert [address.rpartition("/")[2] for address in page.requested] == ["a.html"]
    injected = "(() => { const s = document.createElement('script'); s.textContent = 'window.bad = 1';"
    page.evaluate(f"{injected} document.body.append(s); }})()")
    assert page.evaluate("typeof window.bad") == "undefined", "the policy lets no other script run"


@browser_test
def test_light_dark_and_print_are_readable(recording: RunRecord, show: Callable[[str, str], Page]) -> None:
    page = show("a.html", draw(recording))
    contrast = """(() => {
      const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
      const style = (selector) => getComputedStyle(document.querySelector(selector));
      const pairs = [["#said", "body"], ["th", "#kernel"], ["td", "#kernel"], ["[aria-current]", "[aria-current]"]];
      return pairs.map(([text, ground]) => [style(text).color, style(ground).backgroundColor].map(light))
        .map(([one, other]) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05));
    })()"""
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate(prefers_color_scheme=scheme)
        assert min(page.evaluate(contrast)) >= 4.5, "WCAG 2, success criterion 1.4.3"
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    page.emulate("print", prefers_color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.querySelector('main')).display") == "none"
    rows = page.evaluate("[...document.querySelectorAll('#all tbody tr')].filter((row) => row.offsetHeight).length")
    assert rows == sum(len(request.steps) for request in recording.requests)
    pdf = base64.b64decode(page.ask("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF")
    page.emulate()


@browser_test
def test_a_screen_reader_finds_a_name_and_a_role_for_everything(
    recording: RunRecord, show: Callable[[str, str], Page]
) -> None:
    page = show("a.html", draw(recording))
    nodes = page.ask("Accessibility.getFullAXTree")["nodes"]
    named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]}
    roles = {role for role, _ in named}
    assert {"banner", "navigation", "main", "status", "button", "heading", "table", "rowheader"} <= roles
    assert not [role for role, name in named if role in ("button", "image", "navigation", "region") and not name]
    live = [node for node in nodes if node["role"].get("value") == "status"]
    assert [one["value"]["value"] for node in live for one in node["properties"] if one["name"] == "live"] == ["polite"]


def test_a_page_of_a_hundred_requests_is_small(recording: RunRecord) -> None:
    size = len(draw(recording).encode())
    per_request = (size - 30_000) / len(recording.requests)
    assert 30_000 + 100 * per_request < 2 << 20
