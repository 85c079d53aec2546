"""Recordings: a run that was recorded is repeated elsewhere, to the same instruction and the same registers."""

import io
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.builder import create_image
from callgate.disk.images.demo import demo_image
from callgate.disk.media import ImageError, open_image
from callgate.kernel.machine.memory.outside import (
    Break,
    EndProcess,
    Forgotten,
    HangUp,
    Input,
    Plug,
    SetRegister,
    Unplug,
    Write,
)
from callgate.kernel.machine.observation.position import Position
from callgate.kernel.system import System, SystemOptions
from callgate.tools.cli.debug import recording_in
from callgate.tools.debugger.commands.language import Desk, carry_out
from callgate.tools.debugger.history import History
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from callgate.tools.recording import Occurred, Recorder, RecordingError, read_recording
from callgate.tools.recording.lines import dump, parsed, plain
from callgate.tools.session.options import SessionOptions
from callgate.tools.session.recorded import Recorded
from callgate.tools.session.session import EXIT_IMAGE, EXIT_USAGE, Session

HOLE = 4096
SMALL = SystemOptions(32 << 20, 8 << 20)


def record(
    file: Path, *images: Path, typed: bytes = b"ls\nfree\nexit 3\n", unplug: Sequence[tuple[int, int]] = ()
) -> bytes:
    """Run a session as `callgate boot --record` does; return what it has printed."""
    reading, writing = os.pipe()
    os.write(writing, typed)
    os.close(writing)
    options = SessionOptions(list(images), memory=32 << 20, high_memory=8 << 20, unplug=list(unplug), quiet=True)
    printed = io.BytesIO()
    with os.fdopen(reading, "rb") as source:
        assert Session(options, source, printed, [Recorded(file, unplug, demo=not images)]).run() == 3
    return printed.getvalue()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A recording, and what its run has printed."""
    file = tmp_path_factory.mktemp("recorded") / "run.cgr"
    return file, record(file)


def test_a_recorded_run_ends_at_the_same_instruction_with_the_same_registers(recorded: tuple[Path, bytes]) -> None:
    file, printed = recorded
    recording = read_recording(file)
    assert [type(entry.what) for entry in recording.occurred] == [Input]
    again = bytearray()
    with recording.system() as system:
        system.machine.serial.output = again.extend
        history = History(system)
        history.expect(recording.occurred, recording.last, recording.registers)
        assert history.run(until="ipc.take").reason == "until"
        history.go(history.edge)
        assert bytes(again) == printed, "what lies on a way forward is told as well"
        history.go(history.first)
        stop = history.run()
        assert (stop.reason, stop.detail) == ("exit", 3)
        assert history.moment == history.edge
        assert system.machine.position == recording.end
        assert system.machine.cpu.registers() == recording.registers
    assert bytes(again) == printed, "it is told once"
    assert b"README.TXT" in printed


def test_a_run_that_is_not_the_recorded_one_is_said_with_the_place_and_nothing_is_lost(
    recorded: tuple[Path, bytes],
) -> None:
    recording = read_recording(recorded[0])
    (typed,) = recording.occurred
    late = Occurred(typed.position._replace(retired=typed.position.retired + 1), typed.what)
    wrong = recording.registers | {"eax": recording.registers["eax"] + 1}
    for occurred, registers, reason in (
        ([late], recording.registers, f"the run waits for input at {typed.position}"),
        ([typed], wrong, rf"other registers: eax is {wrong['eax'] - 1:#x} and was {wrong['eax']:#x}"),
    ):
        with recording.system() as system:
            history = History(system)
            history.expect(occurred, recording.last, registers)
            desk = Desk(Workbench(system, history), [].append)
            carry_out(desk, "stepi 5")
            for line in ("continue", "list requests") if occurred == [late] else ("goto end",):
                with pytest.raises(CommandError, match=f"not the run that was recorded: .*{reason}"):
                    carry_out(desk, line)
                assert system.machine.position == Position(5, 0, 5)
            desk.bench.close()


def test_a_disk_that_is_unplugged_at_a_time_is_part_of_the_recording(tmp_path: Path) -> None:
    file = tmp_path / "unplugged.cgr"
    record(file, typed=b"ls\nls\nls\nexit 3\n", unplug=[(1_100_000, 0)])
    recording = read_recording(file)
    assert recording.header["unplug"] == [[1_100_000, 0]]
    with recording.system() as system:
        history = History(system)
        history.expect(recording.occurred, recording.last)
        assert history.run().detail == 3
        assert system.machine.cpu.registers() == recording.registers


def test_the_images_lie_beside_a_recording_that_was_sent_elsewhere(tmp_path: Path) -> None:
    image, file = tmp_path / "a.img", tmp_path / "a.cgr"
    shutil.copy(demo_image(cache_directory()), image)
    record(file, image)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in (image, file):
        shutil.move(path, elsewhere / path.name)
    read_recording(elsewhere / "a.cgr").system().close()
    (elsewhere / "a.img").rename(elsewhere / "b.img")
    with pytest.raises(ImageError, match=r"a\.img: there is no such file; name the image of d0 after the recording"):
        read_recording(elsewhere / "a.cgr").system()
    read_recording(elsewhere / "a.cgr").system([elsewhere / "b.img"]).close()


def test_an_image_that_differs_is_refused_by_name(tmp_path: Path) -> None:
    image, file = tmp_path / "a.img", tmp_path / "a.cgr"
    shutil.copy(demo_image(cache_directory()), image)
    record(file, image)
    with image.open("r+b") as stream:
        stream.seek(40_000_000)
        stream.write(b"x")
    with pytest.raises(RecordingError, match=r"was recorded with another a\.img: .*a\.img differs from it"):
        read_recording(file).system()


def test_holes_in_a_copy_of_an_image_make_no_difference(tmp_path: Path) -> None:
    image, file = tmp_path / "a.img", tmp_path / "a.cgr"
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "A.TXT").write_text("text\n")
    create_image(tmp_path / "made.img", tmp_path / "files", fs="fat16")
    image.write_bytes((tmp_path / "made.img").read_bytes())
    record(file, image)
    content, blocks = image.read_bytes(), image.stat().st_blocks
    with image.open("wb") as stream:
        for place in range(0, len(content), HOLE):
            if any(piece := content[place : place + HOLE]):
                stream.seek(place)
                stream.write(piece)
        stream.truncate(len(content))
    assert image.stat().st_blocks < blocks, "the copy has more holes than what was recorded"
    read_recording(file).system().close()  # RecordingError for an image that differs


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("version", "callgate 9.9", "was recorded by callgate 9.9, and this is callgate"),
        ("sources", "0", "was recorded by this version with other sources"),
        ("callgate recording", 2, "has format 2, and this callgate reads 1; use a newer callgate"),
        ("options", {"memory": "much"}, "does not describe a system: option memory"),
        ("options", {"speed": 3}, "does not describe a system: unknown options speed"),
        ("options", {"memory": 5}, "does not describe a system: low memory is"),
        ("unplug", [[3]], "does not describe a system"),
        ("unplug", [[3, 99]], "does not describe a system: there is no disk 99"),
        ("images", 7, "its first line is damaged"),
    ],
)
def test_a_beginning_that_does_not_fit_is_refused(
    recorded: tuple[Path, bytes], tmp_path: Path, field: str, value: object, reason: str
) -> None:
    first, *rest = recorded[0].read_text().splitlines(keepends=True)
    file = tmp_path / "changed.cgr"
    file.write_text(dump({**json.loads(first), field: value}) + "".join(rest))
    with pytest.raises(RecordingError, match=reason):
        read_recording(file).system()


def test_a_recording_that_was_cut_off_is_used_up_to_its_last_whole_line(
    recorded: tuple[Path, bytes], tmp_path: Path
) -> None:
    content = recorded[0].read_bytes()
    file = tmp_path / "cut.cgr"
    for length in range(content.index(b"\n") + 1, len(content)):
        file.write_bytes(content[:length])
        recording = read_recording(file)
        assert recording.end is None
        assert recording.last == (recording.occurred[-1].position if recording.occurred else Position(0))


def test_damage_is_told_with_its_line(recorded: tuple[Path, bytes], tmp_path: Path) -> None:
    lines = recorded[0].read_text().splitlines(keepends=True)
    file = tmp_path / "damaged.cgr"
    for line in (
        '{"at":[1,2],"input":5}\n',
        "{}\n",
        "[]\n",
        '{"at":[-1,0,0],"break":true}\n',
        "\x00\n",
        '{"end":[1]}\n',
        '{"end":[1,0,1],"registers":{"eex":1}}\n',
        '{"end":[1,0,1],"registers":{"eax":"1"}}\n',
        100_000 * "[" + "\n",
    ):
        file.write_text(lines[0] + line + "\n" + lines[1])
        with pytest.raises(RecordingError, match="line 2 is damaged"):
            read_recording(file)
    file.write_text("{}")
    with pytest.raises(RecordingError, match="is not a recording of callgate; make one: callgate boot --record FILE"):
        read_recording(file)
    with pytest.raises(RecordingError, match="cannot be read: No such file or directory"):
        read_recording(tmp_path / "none.cgr")


@pytest.mark.parametrize(
    "what",
    [
        Input(bytes(range(256))),
        HangUp(),
        Break(),
        Unplug(3),
        Plug(1, 2),
        Write(0x5000, b"\0\xff"),
        SetRegister("eax", 7),
        SetRegister("xmm0", 1 << 127),
        EndProcess(4),
    ],
)
def test_each_thing_from_outside_is_the_same_after_a_line_of_text(what: object) -> None:
    entry = Occurred(Position(5, 1, 9), what)  # type: ignore[arg-type]
    assert parsed(json.loads(dump(plain(entry)))) == entry


def test_a_recording_of_a_run_that_was_changed_in_the_past_is_of_the_run_that_it_has_become(tmp_path: Path) -> None:
    """Changes that were undone by going back are not in it, though their lines are in the file."""
    file = tmp_path / "changed.cgr"
    with System([open_image(Path(demo_image(cache_directory())))], SMALL) as system, file.open("w") as stream:
        recorder = Recorder(system, stream)
        history = History(system)
        history.run(fuel=5_000)
        before = history.moment
        history.set_register("ecx", 5)
        history.go(before)
        history.set_register("edx", 6)
        history.run(fuel=100)
        history.set_register("esi", 7)
        after = history.moment
        history.run(fuel=100)
        history.go(before)
        history.set_register("cr2", 8)
        history.run(fuel=10)
        history.restart()
        history.run(fuel=4_000)
        history.set_register("cr2", 9)
        expected = [(entry.position, entry.what) for entry in history.occurred]
        history.run(fuel=4_000)
        history.set_register("cr2", 10)
        history.go(history.moment_at(6_000))
        recorder.finish()
        assert after > before
    recording = read_recording(file)
    assert [(entry.position, entry.what) for entry in recording.occurred] == expected
    assert len(expected) == 1
    with recording.system() as again:
        repeated = History(again)
        assert recording.end is not None
        repeated.expect(recording.occurred, recording.end)
        repeated.go(repeated.edge)
        assert again.machine.cpu.cr2 == 9
        assert {name: getattr(again.machine.cpu, name) for name in recording.registers} == recording.registers


@pytest.mark.parametrize("count", [0, 3, -1])
def test_a_line_that_forgets_more_than_has_come_is_damaged(tmp_path: Path, count: int) -> None:
    file = tmp_path / "damaged.cgr"
    with System([open_image(Path(demo_image(cache_directory())))], SMALL) as system, file.open("w") as stream:
        Recorder(system, stream)
        system.machine.set_register("ecx", 5)
    with file.open("a") as stream:
        stream.write(dump(plain(Occurred(Position(0), Forgotten(count)))))
    with pytest.raises(RecordingError, match="line 3 is damaged"):
        read_recording(file)


def test_a_line_that_changes_a_register_that_there_is_not_is_no_line_of_a_recording() -> None:
    line = plain(Occurred(Position(5, 1, 9), SetRegister("eax", 7)))
    with pytest.raises(ValueError, match="can be changed by hand"):
        parsed(line | {"register": "cpl"})


def test_a_recording_that_is_written_holds_what_has_come_so_far(tmp_path: Path) -> None:
    file = tmp_path / "unfinished.cgr"
    medium = open_image(Path(demo_image(cache_directory())))
    with System([medium], SMALL) as system, file.open("w") as stream:
        Recorder(system, stream)
        system.run()
        system.machine.serial.feed(b"ls\n")
        system.run()
        system.unplug(0)
        assert [entry.what for entry in read_recording(file).occurred] == [Input(b"ls\n"), Unplug(0)]


def test_a_recording_is_not_written_over_an_image_or_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "a.img"
    shutil.copy(demo_image(cache_directory()), image)
    before = image.stat().st_mtime_ns
    for target, reason in ((Path("-"), "a recording is a file"), (image, "is an image of this run")):
        options = SessionOptions([image], commands="ls")
        observers = [Recorded(target, [], demo=False)]
        assert Session(options, sys.stdin.buffer, io.BytesIO(), observers).run() == EXIT_USAGE
        assert reason in capsys.readouterr().err
    assert image.stat().st_mtime_ns == before


@pytest.mark.parametrize("kept", [b"", b"callgate"])
def test_a_file_that_is_named_as_a_recording_and_is_none_is_not_taken_for_an_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: bytes
) -> None:
    path = tmp_path / "run.cgr"
    path.write_bytes(kept)
    with pytest.raises(SystemExit):
        recording_in([path])
    assert "run.cgr: is not a recording of callgate" in capsys.readouterr().err


def test_a_recording_is_not_booted_as_a_disk(recorded: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    options = SessionOptions([recorded[0]], commands="ls")
    assert Session(options, sys.stdin.buffer, io.BytesIO(), []).run() == EXIT_IMAGE
    assert f"is a recording, not a disk image; step through it: callgate debug {recorded[0]}" in capsys.readouterr().err
