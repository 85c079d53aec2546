"""Flame graphs: counts that add up to the ledger's, stacks as the code calls, files that others read."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from callgate.asm import include
from callgate.asm.assembler import assemble_text
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import open_image
from callgate.kernel.machine.observation.ledger import Counts
from callgate.kernel.system import System, SystemOptions
from callgate.tools.pictures.flame.draw import as_speedscope, as_svg
from callgate.tools.pictures.flame.profile import CALL, PLAIN, RETURN, Profile, kind_of

SVG = "{http://www.w3.org/2000/svg}"
Profiled = tuple[Counter[Any], Counts, Counter[str]]


def profile(commands: str, *, native: bool = True, counter: str = "auto") -> Profiled:
    """Return the counts by stack, the ledger, and how often each routine of the kernel was entered by a probe."""
    options = SystemOptions(commands=commands, counter=counter)
    entered: Counter[str] = Counter()
    with System([open_image(demo_image(cache_directory()))], options) as system:
        for name in ("disk_submit", "fetch_slot", "take_slot"):
            system.machine.probe(name, lambda name=name: entered.update([name]))
        made = Profile(system, native=native)
        assert made.hook.native or not native
        system.run()
        return made.finish(), system.machine.ledger.counts(), entered


@pytest.fixture(scope="module")
def profiled() -> Profiled:
    # A program that faults, threads that are switched between, interrupts, floating-point traps.
    return profile("dir; cat README.TXT; /rom/hello; /rom/crash p; time /rom/crash d")


def test_the_counts_of_all_stacks_add_up_to_the_ledger_in_each_ring(profiled: Profiled) -> None:
    counts, ledger, _ = profiled
    rings: Counter[int] = Counter()
    for (_, ring), count in counts.items():
        assert count > 0
        rings[ring] += count
    assert rings == {0: ledger.ring0, 3: ledger.ring3}
    assert sum(ledger.exceptions.values()) > 0, "some instruction faulted"
    assert sum(ledger.interrupts.values()) > 0


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize(("native", "counter"), [(False, "python"), (False, "auto"), (True, "python")])
def test_host_code_and_python_count_the_same(native: bool, counter: str) -> None:
    wanted, _, _ = profile("cat README.TXT")
    found, ledger, _ = profile("cat README.TXT", native=native, counter=counter)
    assert found == wanted
    assert sum(found.values()) == ledger.guest_instructions


def test_routines_stand_on_those_that_call_them(profiled: Profiled) -> None:
    counts, _, _ = profiled
    stacks = {stack for stack, _ in counts}
    shown = {" > ".join(stack) for stack in stacks}
    assert any(one.startswith("shell (4) > start > run_line > command_dir > put_directory > put_") for one in shown)
    assert any("run_coroutine > disk_submit > ahci_start" in one for one in shown)
    assert {stack[0] for stack in stacks} >= {"boot", "kernel", "shell (4)", "hosted:d0p1 (2)", "rom (1)"}
    interrupted = {stack[1] for stack in stacks if stack[0] == "kernel" and "interrupt" in stack}
    assert "idle" in interrupted, "an interrupt stands on what it interrupts"
    assert max(map(len, stacks)) < 20, "no stack grows with the length of the run"


def test_the_instructions_of_a_routine_are_a_multiple_of_its_calls(profiled: Profiled) -> None:
    counts, _, entered = profiled
    fetched = sum(count for (stack, _), count in counts.items() if stack[-1] == "fetch_slot")
    assert entered["fetch_slot"] > 0
    assert fetched % entered["fetch_slot"] == 0, "each call takes the same way when no other CPU is there"


def test_a_program_without_symbols_is_counted_under_a_question_mark(command_line: Callable[..., Any]) -> None:
    program = assemble_text(
        '.include "system.inc"\nstart: mov ecx, 1000\nagain: loop again\n mov ebx, 0\n SYSTEM EXIT\n',
        origin=0x400000,
        include_dirs=[Path(str(include.__file__)).parent],
    )
    Path("files").mkdir()
    Path("files/spin").write_bytes(program.elf(debug=False))
    assert command_line("disk", "create", "a.img", "--from", "files", "--size", "4M").status == 0
    assert command_line("trace", "-q", "a.img", "-c", "spin", "--flame", "f.speedscope.json").status == 0
    file = json.loads(Path("f.speedscope.json").read_text())
    frames = [frame["name"] for frame in file["shared"]["frames"]]
    [spinning] = [
        weight
        for sample, weight in zip(file["profiles"][0]["samples"], file["profiles"][0]["weights"], strict=True)
        if next(frames[index] for index in sample).startswith("spin (") and frames[sample[-1]] == "?"
    ]
    assert spinning == 1000 + 1 + 3, "MOV, 1000 times LOOP, and the call of EXIT"


def test_boxes_of_a_graph_lie_within_those_below_and_say_their_counts(profiled: Profiled) -> None:
    counts, ledger, _ = profiled
    tree = ET.fromstring(as_svg(counts, "dir"))
    rows: dict[float, list[tuple[float, float, int, int]]] = {}
    for box in tree.iter(f"{SVG}rect"):
        said = re.search(r"(\d+) instructions, .*; (\d+) by itself", box.findtext(f"{SVG}title", ""))
        assert said
        left, width = float(box.get("x", "")), float(box.get("width", ""))
        rows.setdefault(float(box.get("y", "")), []).append((left, left + width, int(said[1]), int(said[2])))
    bottom = max(rows)
    assert [total for _, _, total, _ in rows[bottom]] == [ledger.guest_instructions]
    for y, boxes in rows.items():
        boxes.sort()
        assert all(end <= start + 0.01 for (_, end, _, _), (start, _, _, _) in itertools.pairwise(boxes))
        for left, right, total, own in boxes:
            above = [one for one in rows.get(y - 18, []) if left - 0.01 <= one[0] and one[1] <= right + 0.01]
            assert own + sum(one[2] for one in above) <= total
        if y != bottom:
            assert all(
                any(one[0] - 0.01 <= left and right <= one[1] + 0.01 for one in rows[y + 18])
                for left, right, _, _ in boxes
            )
    assert {found.tag.removeprefix(SVG) for found in tree.iter()} <= {"svg", "title", "style", "rect", "text", "g"}


def test_a_speedscope_file_has_what_its_schema_asks_for(profiled: Profiled) -> None:
    """The facts are those of speedscope's file-format-schema.json (SampledProfile, FrameIndex, ValueUnit)."""
    counts, ledger, _ = profiled
    file = json.loads(as_speedscope(counts, "dir"))
    assert file["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert set(file) <= {"$schema", "exporter", "name", "shared", "profiles", "activeProfileIndex"}
    [sampled] = file["profiles"]
    assert set(sampled) == {"type", "name", "unit", "startValue", "endValue", "samples", "weights"}
    assert (sampled["type"], sampled["unit"], sampled["startValue"]) == ("sampled", "none", 0)
    assert len(sampled["samples"]) == len(sampled["weights"])
    assert sampled["endValue"] == sum(sampled["weights"]) == ledger.guest_instructions
    frames = file["shared"]["frames"]
    assert all(set(frame) == {"name"} for frame in frames)
    assert {index for sample in sampled["samples"] for index in sample} == set(range(len(frames)))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *(("e8 00 00 00 00", CALL), ("9a 00 00 00 00 33 00", CALL), ("ff d0", CALL), ("ff 14 24", CALL)),
        *(("64 ff 15 00 00 00 00", CALL), ("c3", RETURN), ("c2 04 00", RETURN), ("cb", RETURN), ("cf", RETURN)),
        *(
            ("66 cf", RETURN),
            ("ff e0", PLAIN),
            ("ff 30", PLAIN),
            ("90", PLAIN),
            ("f3 a4", PLAIN),
            ("ff", PLAIN),
            ("", PLAIN),
        ),
    ],
)
def test_calls_and_returns_are_told_from_other_instructions(code: str, kind: int) -> None:
    assert kind_of(bytes.fromhex(code)) == kind


@pytest.mark.thorough(only=True)
@pytest.mark.parametrize("ending", ["svg", "speedscope.json"])
def test_a_profile_is_the_same_each_time_also_beside_a_picture(command_line: Callable[..., Any], ending: str) -> None:
    name = f"f.{ending}"
    assert command_line("trace", "-q", "-c", "true", "--flame", name).status == 0
    written = Path(name).read_bytes()
    assert command_line("trace", "-q", "-c", "true", "--flame", name, "-o", "a.svg").status == 0
    assert Path(name).read_bytes() == written
    assert Path("a.svg").exists()
    Path(name).write_text("mine\n")
    assert command_line("trace", "-q", "-c", "true", "--flame", name).status == 2
    assert Path(name).read_text() == "mine\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--flame", "a.jsn"), "did you mean a.speedscope.json?"),
        (("--flame", "a.txt"), "end it with .svg or .speedscope.json"),
        ((), "give -o OUT, --flame FILE, or both"),
        (("-o", "a.svg", "--flame", "a.svg"), "is also the file of -o"),
        (("--format", "svg", "--flame", "a.svg"), "--format says how -o is written"),
    ],
)
def test_outputs_that_contradict_each_other_are_refused_and_leave_nothing(
    command_line: Callable[..., Any], arguments: tuple[str, ...], words: str
) -> None:
    refused = command_line("trace", "-q", "-c", "true", *arguments)
    assert refused.status == 2
    assert words in " ".join(refused.messages.split())
    assert not list(Path().iterdir())
