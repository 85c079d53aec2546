"""What a checkpoint in the middle of a session copies: counts, which are the same in every run."""

import itertools
from collections import Counter

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import ImageFile
from callgate.kernel.system import System, SystemOptions
from callgate.kernel.watching.snapshots.kept_records import Kept
from callgate.kernel.watching.snapshots.record_forms import Content
from callgate.kernel.watching.snapshots.system_snapshots import SystemSnapshot, under_way
from callgate.server.open_files import OpenFiles

TURN = ("ls -l", "cat README.TXT", "df", "tree", "cat PATTERN.BIN")


class Session:
    """A system in which the shell's commands follow each other, stopped after a turn of them."""

    def __init__(self) -> None:
        self.typed = self.end = 0
        turn = itertools.cycle(TURN)

        def source(_size: int) -> bytes:
            self.typed += 1
            if self.typed == self.end:
                self.system.machine.control.interrupt()
            return f"{next(turn)}\n".encode()

        image = ImageFile(demo_image(cache_directory()))
        self.system = System([image], SystemOptions(source=source, scratch=True))

    def after(self, turns: int) -> SystemSnapshot:
        """Run until this many turns have been typed, and policy is at rest; return a snapshot."""
        self.end = turns * len(TURN) + 1
        self.system.run()
        while under_way(self.system.kernel) is not None:
            self.system.run(fuel=10)
        return self.system.snapshot()


def test_a_checkpoint_after_files_and_directories_were_shown_copies_few_records_and_looks_at_no_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = Session()
    with session.system as system:
        before = session.after(2)
        blocks = system.kernel.state.cache.blocks
        assert len(blocks) > 800
        copied = Counter[str]()
        holds = Kept.holds

        def count(kept: Kept, content: Content) -> bool:
            copied[kept.form.kind.__name__] += 1
            return holds(kept, content)

        monkeypatch.setattr(Kept, "holds", count)
        after = session.after(3)
        changed = [copy.form.kind.__name__ for copy in after.records if copy not in before.records]
        parts = [copy for server in after.servers.values() for copy in server.parts.values()]
        known = {id(copy) for server in before.servers.values() for copy in server.parts.values()}
        once = (
            "AgeingState CacheState DeferredReleasesState DirectoriesState EndpointState FilesState FramePool Process"
        )
        once += " SchedulerState Thread Uses"
        assert copied == dict.fromkeys(once.split(), 1) | {"Table": 1}, "they were touched, and are compared"
        assert sorted(changed) == ["CacheState", "FilesState", "FramePool"], "counters and the order of free frames"
        assert [copy.kind for copy in parts if id(copy) not in known] == [OpenFiles], "of the one server that was asked"
        assert blocks in [known.record for known in after.records if known in before.records]
