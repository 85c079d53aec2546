"""A program that calls the kernel with arguments of every kind: it gets errors, and leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.builder import create_image

Sessions = Callable[..., Any]


@pytest.mark.parametrize("seed", ["0000", "abcd", "7 7 "])
def test_no_argument_of_a_call_harms_the_kernel(session: Sessions, tmp_path: Path, seed: str) -> None:
    root = tmp_path / "root"
    (root / "D").mkdir(parents=True)
    (root / "A.TXT").write_bytes(b"what others read\n")
    create_image(tmp_path / "a.img", root, fs="fat16", size=16 << 20)
    made = session(tmp_path / "a.img", programs=[("caller", seed), ("reader", "r/d0/A.TXT")])
    calls = made.kernel.machine.ledger.counts().client_gates
    assert made.run().reason == "halt"
    assert made.codes == [0, 0]
    assert made.output == b"what others read\n"
    assert made.kernel.machine.ledger.counts().client_gates - calls > 3000
    assert made.unaccounted() == []
    assert not any(line.startswith("process") for line in made.log), made.log
