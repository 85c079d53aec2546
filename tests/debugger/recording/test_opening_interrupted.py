"""Ctrl-C while a recording of a test that failed is repeated up to the failure."""

import signal
from pathlib import Path

import pytest
from callgate.tools.asmtest.cases.alone import run_alone
from callgate.tools.cli.debug import opened
from callgate.tools.cli.debugging.systems import begun, recorded
from callgate.tools.debugger.workbench.workbench import Workbench
from callgate.tools.recording import parsed_recording

MEGABYTE = 1 << 20
CASE = """
count:  mov     ecx, 3
again:  loop    again
        ret

;@ case ecx is counted down to one
;@   call    count
;@   expect  ecx = 1
"""


def test_ctrl_c_on_the_way_to_the_failure_opens_a_recording_at_its_beginning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "test_count.asm"
    path.write_text(CASE)
    recording = parsed_recording(tmp_path / "it.cgr", run_alone(path, "", tmp_path).recording.encode())
    with recorded(recording, ()) as machine:
        bench = Workbench(machine, begun(machine, recording, 8 * MEGABYTE))
        with bench.machine.probing("again", lambda: signal.raise_signal(signal.SIGINT)):
            assert opened(bench, [recording.path])
        assert "it.cgr: interrupted on the way to its end: this is its beginning" in capsys.readouterr().err
        assert bench.history.moment == bench.history.first
        assert bench.history.edge.position.retired == 4
        assert bench.open()
        assert bench.history.moment == bench.history.edge
        bench.close()
