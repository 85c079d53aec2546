"""One recorded run for all tests of pictures, with what was seen of it in other ways."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from browser import Page, chromium
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import open_image
from callgate.kernel.abi.memory import PAGE_SIZE, USER_MESSAGES
from callgate.kernel.machine.observation.ledger import Counts
from callgate.kernel.machine.observation.stream import Event
from callgate.kernel.system import System, SystemOptions
from callgate.tools.pictures.recorder import Recorder
from callgate.tools.pictures.records import RunRecord

HOSTILE = "</script><img src=x onerror=alert(1)>"
COMMANDS = f'dir; cat README.TXT; cat "{HOSTILE}"; cat README.TXT'  # whose CLOSE no OPEN carries: policy posts it


@dataclass
class Seen:
    """A recording, the events of the run, its statistics, and walks of the servers' page tables."""

    recording: RunRecord
    events: list[Event] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)
    walks: list[tuple[str, int | None]] = field(default_factory=list)


@pytest.fixture(scope="package")
def seen() -> Seen:
    """Boot the demo image, and record it."""
    options = SystemOptions(commands=COMMANDS, observe_operations=True)
    with System([open_image(demo_image(cache_directory()))], options) as system:
        result = Seen(RunRecord(("demo.img",), COMMANDS))
        recorder = Recorder(system, result.recording)

        def look(event: Event) -> None:
            result.events.append(event)
            if event.kind in ("ipc.map", "ipc.unmap"):
                process = system.kernel.scheduler.current.process
                slot = event.fields["slot"]
                assert isinstance(slot, int)
                linear = USER_MESSAGES + slot * PAGE_SIZE
                assert event.fields.get("linear", linear) == linear
                walk = system.machine.paging.walk(linear, process.pointers)
                result.walks.append((event.kind, walk.physical))

        system.trace(look)
        system.run()
        recorder.finish()
        result.statistics = system.statistics()
    return result


@pytest.fixture
def boot_counts() -> Counts:
    """The ledger of the same run with no observer."""
    with System([open_image(demo_image(cache_directory()))], SystemOptions(commands=COMMANDS)) as system:
        system.run()
        return system.machine.ledger.counts()


@pytest.fixture
def recording(seen: Seen) -> RunRecord:
    return seen.recording


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A headless browser."""
    with chromium(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def show(browser: Page, tmp_path: Path) -> Any:
    """Show a file of some text in the browser: `show("a.html", text)`."""

    def open_it(name: str, text: str) -> Page:
        file = tmp_path / name
        file.write_text(text, "utf-8")
        browser.session = ""
        browser.complaints.clear()
        browser.open(file)
        return browser

    return open_it
