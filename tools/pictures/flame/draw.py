"""A profile as a flame graph in SVG, and as a file for speedscope.app.

In the graph widths are counts; the order from left to right is alphabetical and means nothing; what is called stands on
its caller.  No script: the tooltip of a box has its count, its share, and what it spent by itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from callgate.tools.pictures.flame.profile import Stack
from callgate.tools.pictures.svg import document, element, fit, number, printable, text

KIND: Final = "trace: flame graph"
SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"
EXPORTER: Final = "callgate trace"
SPEEDSCOPE_MARK: Final = f'"exporter": "{EXPORTER}"'.encode()
WIDTH: Final = 1600.0
MARGIN: Final = 12
ROW: Final = 18
TOP: Final = 64
THINNEST: Final = 0.1  # pixels; narrower boxes are left out, and counted below
COLOURS: Final = {-1: "#d9d9d9", 0: "#f2b179", 3: "#8fbfe0"}  # processes, ring 0, ring 3
STYLE: Final = """
svg{background:#fff;font-family:ui-monospace,"DejaVu Sans Mono",Consolas,monospace;font-size:11px;fill:#111}
.box{stroke:#fff;stroke-width:.5}.name{font-weight:bold}.ring3{stroke:#1f5f8b;stroke-width:1}
"""
Counts = Mapping[tuple[Stack, int], int]


@dataclass(slots=True)
class Node:
    """A routine on its callers, with what was counted in it and above it."""

    name: str
    ring: int = -1
    own: int = 0
    total: int = 0
    inner: dict[tuple[str, int], Node] = field(default_factory=dict)


def tree_of(counts: Counts) -> Node:
    """Return the tree of all stacks; each node's total is the sum of its own count and those within it."""
    root = Node("all instructions")
    for (stack, ring), count in counts.items():
        root.total += count
        node = root
        for index, name in enumerate(stack):
            last = index == len(stack) - 1
            key = (name, ring if last and index else -1)
            node = node.inner.setdefault(key, Node(name, key[1]))
            node.total += count
        node.own += count
    return root


def merged(node: Node) -> Node:
    """Return the tree with nodes of one name made one: what a routine calls, and what it does by itself."""
    by_name: dict[tuple[str, int], Node] = {}
    for inner in node.inner.values():
        other = by_name.setdefault((inner.name, -1), Node(inner.name))
        other.own += inner.own
        other.total += inner.total
        if inner.ring >= 0:
            other.ring = inner.ring
        for key, deeper in inner.inner.items():
            known = other.inner.get(key)
            other.inner[key] = deeper if known is None else _joined(known, deeper)
    result = Node(node.name, node.ring, node.own, node.total)
    result.inner = {key: merged(inner) for key, inner in by_name.items()}
    return result


def _joined(one: Node, other: Node) -> Node:
    joined = Node(one.name, one.ring, one.own + other.own, one.total + other.total, dict(one.inner))
    for key, deeper in other.inner.items():
        known = joined.inner.get(key)
        joined.inner[key] = deeper if known is None else _joined(known, deeper)
    return joined


def depth(node: Node) -> int:
    """Return the number of levels."""
    return 1 + max(map(depth, node.inner.values()), default=0)


def as_svg(counts: Counts, command: str) -> str:
    """Return the flame graph."""
    root = merged(tree_of(counts))
    height = TOP + depth(root) * ROW + 40
    rings = Counter[int]()
    for (_, ring), count in counts.items():
        rings[ring] += count
    words = f"{root.total} instructions: {rings[0]} in ring 0 (orange), {rings[3]} in ring 3 (blue, framed)"
    title = f"callgate trace -c {command}"
    body = [
        text(MARGIN, 20, fit(title, WIDTH - 2 * MARGIN), class_="name"),
        text(MARGIN, 38, words),
        *_boxes(root, root.total, MARGIN, TOP + (depth(root) - 1) * ROW),
    ]
    return document(WIDTH, height, f"Flame graph of {title}: {words}", STYLE, body, KIND)


def _boxes(node: Node, whole: int, x: float, y: float) -> Iterator[str]:
    scale = (WIDTH - 2 * MARGIN) / max(whole, 1)
    width = node.total * scale
    if width < THINNEST:
        return
    ring = "" if node.ring < 0 else f", ring {node.ring}"
    share = f"{100 * node.total / max(whole, 1):.2f} %"
    title = f"{node.name}{ring}\n{node.total} instructions, {share}; {node.own} by itself"
    style = "box ring3" if node.ring == 3 else "box"
    box = element(
        *("rect", "", title),
        class_=style,
        x=number2(x),
        y=number(y),
        width=number2(width),
        height=ROW - 1,
        fill=COLOURS[node.ring],
    )
    label = text(x + 3, y + 12, fit(node.name, width - 6)) if width > 30 else ""
    yield element("g", box + label)
    for _, inner in sorted(node.inner.items()):
        yield from _boxes(inner, whole, x, y - ROW)
        x += inner.total * scale


def number2(value: float) -> str:
    """Return a coordinate with at most three decimals: boxes that meet must not overlap."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def as_speedscope(counts: Counts, command: str) -> str:
    """Return the profile in speedscope's file format: one sample for each stack, its weight the exact count."""
    frames: dict[str, int] = {}
    samples, weights = [], []
    for (stack, _), count in sorted(counts.items()):
        samples.append([frames.setdefault(printable(name), len(frames)) for name in stack])
        weights.append(count)
    profile = {
        "type": "sampled",
        "name": printable(f"callgate trace -c {command}"),
        "unit": "none",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
    file = {
        "exporter": EXPORTER,
        "$schema": SCHEMA,
        "name": profile["name"],
        "shared": {"frames": [{"name": name} for name in frames]},
        "profiles": [profile],
        "activeProfileIndex": 0,
    }
    return json.dumps(file, ensure_ascii=False) + "\n"
