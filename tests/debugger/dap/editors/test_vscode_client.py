"""The debug adapter with `@vscode/debugadapter-testsupport`, the client of those who write adapters for that editor."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import host_programs
import pytest
from callgate.kernel.programs.images import kernel_image

MAIN = "from callgate.tools.cli.main import main; main()"
PACKAGES = Path(sys.prefix) / "node" / "node_modules"  # where .ci/run puts it


@pytest.mark.thorough(only=True)
def test_the_client_of_visual_studio_codes_adapters_goes_through_a_request_both_ways(lines: Any) -> None:
    node = host_programs.find("node")
    if not (PACKAGES / "@vscode" / "debugadapter-testsupport").is_dir():
        pytest.skip("@vscode/debugadapter-testsupport is not installed (npm, see .ci/run)")
    command = [sys.executable, "-c", MAIN, "debug", "--dap-port", "0"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as adapter:
        assert adapter.stderr is not None
        port = adapter.stderr.readline().decode().strip().rpartition(":")[2]
        script = Path(__file__).with_name("vscode.js")
        said = host_programs.run(node, script, port, lines.source, lines.line, NODE_PATH=str(PACKAGES))
        assert adapter.wait(20) == 0
    seen = json.loads(said)
    moves = ["continue", "step", "back step", "continue", "back continue", "step phase"]
    assert [stop.split()[0] for stop in seen["stops"]] == [lines.retired(move) for move in moves]
    assert [name.partition("+")[0] for name in seen["frames"]][:2] == ["take_slot", "ipc_request"]
    assert seen["eip"] == f"{kernel_image().address('take_slot'):#x}"
    assert "idle: " in " ".join(seen["threads"])
    assert seen["printed"].startswith("volume    system")
