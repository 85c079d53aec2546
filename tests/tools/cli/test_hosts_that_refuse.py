"""Hosts that refuse something: no home directory, a folder that cannot be written to, an image that may not be read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.tools.session.history import History, HistoryError, default_path

Command = Callable[..., Any]


@pytest.fixture
def no_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the home directory, as for a user of a container that has no entry in passwd."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", staticmethod(home))
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_home_directory")
def test_without_a_home_directory_the_history_says_what_to_set() -> None:
    with pytest.raises(HistoryError, match="there is no home directory; set XDG_STATE_HOME, or name a file"):
        default_path()


@pytest.mark.usefixtures("no_home_directory")
def test_without_a_home_directory_the_demo_image_says_what_to_set(command_line: Command) -> None:
    done = command_line("boot", "-c", "ver")
    assert done.status == 5
    assert done.messages == "callgate: the demo image: there is no home directory to keep it in; set XDG_CACHE_HOME\n"


def test_a_history_that_cannot_be_kept_says_where_and_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "history"
    history = History(tmp_path / "history")
    history.path = path
    history.earlier = []
    history._read = list  # type: ignore[method-assign]  # the folder has gone since it was read
    history.add(b"dir")
    with pytest.raises(HistoryError) as caught:
        history.save()
    assert str(caught.value) == f"{path}: cannot be written: File exists; the lines are lost"


@pytest.mark.parametrize("command", [("boot", "-c", "vol"), ("disk", "inspect")])
def test_an_image_that_may_not_be_read_is_a_bad_image_and_not_wrong_usage(
    command: tuple[str, ...], command_line: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "secret.img"
    image.write_bytes(b"")
    monkeypatch.setattr(os, "access", lambda *_arguments, **_options: False)
    assert command_line(*command, image).status == 5
