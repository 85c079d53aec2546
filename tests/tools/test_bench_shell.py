"""`callgate bench shell`: what a user waits for, within its figures."""

import pytest
from callgate.tools.bench import shell


@pytest.mark.thorough(only=True)
def test_the_figures_of_the_shell_hold() -> None:
    found = {element["name"]: element for element in shell.bench_shell(1)}
    assert list(found) == ["crc32-30m", "cat-30m", "hexdump-3m", "cat-1000-files"]
    assert found["cat-30m"]["ratio_to_crc32"] <= 1.2
    assert found["hexdump-3m"]["guest_instructions"]["total"] <= 8 * shell.DUMPED
    small = found["cat-1000-files"]
    assert small["requests"] <= 1.1
    assert sum(small["host_calls"].values()) <= 8


def test_a_command_that_writes_something_else_is_not_measured(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shell, "BIG", 1 << 16)
    monkeypatch.setattr(shell, "DUMPED", 1 << 12)
    monkeypatch.setattr(shell, "FILES", 20)
    big, many = shell.make_images(tmp_path)
    assert shell.small_files(many, 2)["requests"] <= 1.2
    assert shell.measure("cat", big, "cat /d0/BIG.BIN", 1 << 16, 2)["n"] == 1
    with pytest.raises(shell.BenchmarkError, match="not 5"):
        shell.run(big, "cat /d0/DUMP.BIN", 5)
