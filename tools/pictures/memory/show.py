"""A survey of memory as text, as SVG and as a page of HTML."""

from __future__ import annotations

from html import escape
from typing import Final

from callgate.kernel.abi.memory import HIGH_MEMORY, PAGE_SIZE
from callgate.tools.pictures.memory.survey import BELOW, FREE, Range, Run, Survey
from callgate.tools.pictures.page import digest
from callgate.tools.pictures.svg import document, element, fit, number, printable, text

KIND: Final = "map: physical memory"
MARK: Final = b"<!-- callgate map -->"
TEXT_MARK: Final = b"Physical memory, "
PIECES: Final = 3  # runs of physical pages that a line names
ROW_PAGES: Final = 256  # of a row of the picture: 1 MiB
CELL: Final = 4  # width of a page in pixels
ROW: Final = 14
LEFT: Final = 100
LEGEND: Final = 360
COLOURS: Final = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a5195", "#8a6d00", "#2f6f4f", "#a05a5a"),
    *("#4a6fa5", "#b0893b", "#5a9e8f", "#9a5f8a"),
)
STYLE: Final = """
svg{background:#fff;font-family:ui-monospace,"DejaVu Sans Mono",Consolas,monospace;font-size:11px;fill:#111}
.name{font-weight:bold}.dim{fill:#444}.cell{stroke:#fff;stroke-width:.4}.frame{fill:none;stroke:#888}
.code{fill:#fff;font-size:9px;font-weight:bold}
"""
PAGE_STYLE: Final = """
:root{color-scheme:light dark}body{font:15px/1.45 system-ui,sans-serif;margin:1rem 1.5rem;max-width:90rem}
table{border-collapse:collapse;margin:.5rem 0}th,td{padding:.1rem .8rem .1rem 0;text-align:left;vertical-align:top}
td{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.87rem;overflow-wrap:anywhere}
td.n{text-align:right}svg{max-width:100%;height:auto}summary{font-weight:600;margin:.4rem 0}
@media print{details{break-inside:avoid}}
"""


def as_text(survey: Survey) -> str:
    """Return owners and address spaces as text."""
    lines = [f"Physical memory, at {survey.clock} ns"]
    for high, name, size in ((False, "low", survey.low), (True, "high", survey.high)):
        lines += ["", f"{name} memory: {size >> 10} KiB, {size // PAGE_SIZE} pages", "   pages       KiB  owner"]
        lines += [f"{pages:>8} {pages * 4:>9}  {printable(owner)}" for owner, pages in survey.owners(high=high)]
    for space in survey.spaces:
        lines += ["", f"{printable(space.name)}: page-directory pointers at {space.pointers:#x}"]
        lines += [
            f"  {one.linear:08x}-{one.linear + one.pages * PAGE_SIZE - 1:08x}  {one.rights}  {one.pages:>6} pages  "
            f"{one.what:<26} {places(one)}"
            for one in space.ranges
        ]
    return "\n".join(lines) + "\n"


def places(one: Range) -> str:
    """Return where a range lies in physical memory."""
    shown = ", ".join(
        f"{first:#x}" + (f" to {first + pages * PAGE_SIZE - 1:#x}" if pages > 1 else "")
        for first, pages in one.pieces[:PIECES]
    )
    more = len(one.pieces) - PIECES
    return f"at {shown}" + (f" and {more} more pieces" if more > 0 else "")


def colours(survey: Survey) -> dict[str, str]:
    """Return a colour for each owner: the most pages first; none for what is free."""
    owners = [owner for high in (False, True) for owner, _ in survey.owners(high=high) if owner not in (FREE, BELOW)]
    return {owner: COLOURS[index % len(COLOURS)] for index, owner in enumerate(dict.fromkeys(owners))}


def as_svg(survey: Survey) -> str:
    """Return physical memory as a picture: a row for each MiB, a cell for each page, down to the last page in use."""
    colour = colours(survey)
    codes = {owner: str(index) for index, owner in enumerate(colour, 1)}
    body: list[str] = []
    y = 40.0
    for high, name in ((False, "Low memory"), (True, "High memory, for blocks of disks")):
        runs = [run for run in survey.runs if (run.first >= HIGH_MEMORY) == high]
        body.append(text(LEFT, y, name, class_="name"))
        y = _rows(body, runs, colour, codes, y + 8) + 30
    legend = _legend(body, survey, colour, codes)
    height = max(y, legend) + 10
    width = LEFT + ROW_PAGES * CELL + 24 + LEGEND
    ground = element("rect", width=number(width), height=number(height), fill="#fff")
    return document(width, height, f"Physical memory at {survey.clock} ns", STYLE, [ground, *body], KIND)


def _rows(body: list[str], runs: list[Run], colour: dict[str, str], codes: dict[str, str], y: float) -> float:
    base = runs[0].first
    used = [run for run in runs if run.owner != FREE]
    last = max((run.first + run.pages * PAGE_SIZE - base for run in used), default=0)
    rows = -(-last // (ROW_PAGES * PAGE_SIZE))
    for row in range(rows):
        address = base + row * ROW_PAGES * PAGE_SIZE
        body.append(text(LEFT - 8, y + row * ROW + 10, f"{address:#x}", class_="dim", text_anchor="end"))
    body.append(element("rect", class_="frame", x=LEFT, y=number(y), width=ROW_PAGES * CELL, height=rows * ROW))
    for run in used:
        _cells(body, run, (run.first - base) // PAGE_SIZE, colour, codes, y)
    rest = (runs[-1].first + runs[-1].pages * PAGE_SIZE - base) // PAGE_SIZE - rows * ROW_PAGES
    words = f"{rest} more pages, all free" if rest else "the end"
    body.append(text(LEFT, y + rows * ROW + 14, words, class_="dim"))
    return y + rows * ROW + 14


def _cells(body: list[str], run: Run, start: int, colour: dict[str, str], codes: dict[str, str], y: float) -> None:
    done = 0
    while done < run.pages:
        row, column = divmod(start + done, ROW_PAGES)
        count = min(run.pages - done, ROW_PAGES - column)
        title = f"{run.owner}\n{run.first:#x}, {run.pages} page{'s' * (run.pages != 1)}"
        x, top, width = LEFT + column * CELL, y + row * ROW, count * CELL
        fill = colour.get(run.owner, "#ddd")
        body.append(
            element("rect", "", title, class_="cell", x=x, y=number(top), width=width, height=ROW - 1, fill=fill)
        )
        code = codes.get(run.owner, "")
        if code and width >= 7 * len(code) + 2:
            body.append(text(x + 2, top + 10, code, class_="code"))
        done += count


def _legend(body: list[str], survey: Survey, colour: dict[str, str], codes: dict[str, str]) -> float:
    x, y = LEFT + ROW_PAGES * CELL + 24, 40.0
    for high, name in ((False, "low"), (True, "high")):
        body.append(text(x, y, f"{name} memory: pages, owner", class_="name"))
        for owner, pages in survey.owners(high=high):
            y += 16
            body.append(element("rect", x=x, y=number(y - 9), width=18, height=11, fill=colour.get(owner, "#ddd")))
            body.append(text(x + 2, y, codes.get(owner, ""), class_="code"))
            body.append(element("g", text(x + 24, y, fit(f"{pages:>6} {owner}", LEGEND - 30)), title=owner))
        y += 30
    return y


def as_html(survey: Survey) -> str:
    """Return a page with the picture, the owners, and each address space; no script, nothing from outside."""
    picture = as_svg(survey).partition("?>\n")[2].partition("-->\n")[2]
    styles = " ".join(f"'{digest(style)}'" for style in (PAGE_STYLE, STYLE))
    policy = f"default-src 'none'; style-src {styles}; base-uri 'none'; form-action 'none'"
    parts = [
        f'<!DOCTYPE html>\n{MARK.decode()}\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>callgate map</title>',
        f"<style>{PAGE_STYLE}</style></head><body><h1>Physical memory and address spaces</h1>",
        f"<p>At {survey.clock} ns of virtual time.</p>{picture}",
    ]
    for high, name in ((False, "Low memory"), (True, "High memory")):
        rows = [[str(pages), str(pages * 4), owner] for owner, pages in survey.owners(high=high)]
        parts.append(f"<h2>{name}</h2>{_table(('pages', 'KiB', 'owner'), rows, 2)}")
    parts.append("<h2>Address spaces</h2>")
    for space in survey.spaces:
        rows = [
            [
                f"{one.linear:08x}-{one.linear + one.pages * PAGE_SIZE - 1:08x}",
                str(one.pages),
                one.rights,
                one.what,
                places(one),
            ]
            for one in space.ranges
        ]
        name = f"{_html(space.name)}, page-directory pointers at {space.pointers:#x}"
        head = ("linear", "pages", "rights", "what", "physical")
        parts.append(f"<details open><summary>{name}</summary>{_table(head, rows, 0)}</details>")
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _table(head: tuple[str, ...], rows: list[list[str]], numbers: int) -> str:
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    shown = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' * (index < numbers)}>{_html(cell)}</td>" for index, cell in enumerate(row))
        + "</tr>\n"
        for row in rows
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{shown}</tbody></table>"


def _html(words: str) -> str:
    return escape(printable(words))
