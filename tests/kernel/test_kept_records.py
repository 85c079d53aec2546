"""What snapshots keep of policy's records: all of it, although only records that were touched are copied."""

import copy
import pickle
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import ImageFile
from callgate.kernel.common.table import Table
from callgate.kernel.core.records import Process, ReleaseQueue, Thread
from callgate.kernel.storage.cache_records import CacheState
from callgate.kernel.storage.disk_requests import Run
from callgate.kernel.system import System, SystemOptions
from callgate.kernel.watching.snapshots.kept_records import Kept, RecordKeeper, set_class
from callgate.kernel.watching.snapshots.record_forms import COUNTING, FORMS, RECORDS, Form
from callgate.kernel.watching.snapshots.server_copies import ServerCopy
from callgate.kernel.watching.snapshots.server_pickling import ServerPickler
from callgate.kernel.watching.snapshots.system_snapshots import under_way
from record_pictures import fields, own_class, owned, picture

WORK = (
    "cat README.TXT; /d0p1/hello one; ls -l; tree; hexdump PATTERN.BIN 100000 64; df; cat NO.TXT; ps; "
    "poke README.TXT 0 65; crc32 PATTERN.BIN; /d0p1/hello two; crash; cd /d0p2; ls; cat README.TXT"
)
KEPT = (*RECORDS, Table)  # each by itself
PIECE = 200_000  # instructions between two looks, at most
LOOKS = 30


def process(number: int = 1) -> Process:
    return Process(number, "p", 0x1000)


def thread(owner: Process) -> Thread:
    made = Thread(1, 0x200, 64, 0x2000, owner, 8, "t")
    owner.threads.append(made)
    return made


def untrue(keeper: RecordKeeper) -> list[object]:
    """Return the records that say that they hold what was kept, and do not."""
    found = []
    for known in keeper.present:
        if type(known.record) is known.sealed:
            set_class(known.record, known.form.kind)
            if known.form.content(known.record) != known.content:
                found.append(known.record)
            set_class(known.record, known.sealed)
    return found


@dataclass
class Session:
    """A system that is stopped again and again, to be looked at, kept and restored."""

    seed: int
    printed: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        options = SystemOptions(16 << 20, 8 << 20, commands=WORK, scratch=True, output=self.printed.append)
        self.system = System([ImageFile(demo_image(cache_directory()))], options)
        self.dice = random.Random(self.seed)
        self.kept: list[tuple[object, list[object], dict[int, object], bytes]] = []

    def servers(self) -> dict[int, object]:
        """Return all that hosted servers hold, by a way that takes nothing apart and knows nothing from before."""
        pickler = ServerPickler()
        return {
            number: pickler.pickled(server, server.memory)
            for number, server in self.system.kernel.hosted.servers.items()
        }

    def look(self) -> None:
        """Check what is sealed; then keep the state, go to one that was kept, or run on."""
        if under_way(self.system.kernel) is not None:
            return
        keeper = self.system.snapshots.records
        assert untrue(keeper) == []
        what = self.dice.randrange(4)
        if what == 0 and self.kept:
            snapshot, expected, servers, printed = self.dice.choice(self.kept[-3:])
            self.system.restore(snapshot)
            self.printed[:] = [printed]
            assert picture(self.system.kernel.state) == expected
            assert self.servers() == servers
            assert self.system.kernel.check() == []
        elif what < 3:
            before = picture(self.system.kernel.state)
            self.kept.append((self.system.snapshot(), before, self.servers(), b"".join(self.printed)))
            assert picture(self.system.kernel.state) == before
            assert untrue(keeper) == []

    def run(self, looks: int) -> None:
        """Run to the end, with this many looks on the way."""
        for _ in range(looks):
            if self.system.run(fuel=self.dice.randrange(PIECE)).reason == "exit":
                return
            self.look()
        self.system.run()


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    made = Session(request.param)
    yield made
    made.system.close()


@pytest.mark.parametrize("session", [1, pytest.param(2, marks=pytest.mark.thorough)], indirect=True)
def test_a_system_whose_untouched_records_are_left_alone_runs_as_one_that_is_never_kept(session: Session) -> None:
    with System(
        [ImageFile(demo_image(cache_directory()))],
        SystemOptions(16 << 20, 8 << 20, commands=WORK, scratch=True, output=(plain := list[bytes]()).append),
    ) as alone:
        alone.run()
        session.run(LOOKS)
        assert session.system.exit_code == alone.exit_code
        assert b"".join(session.printed) == b"".join(plain)
        assert session.system.machine.clock.retired == alone.machine.clock.retired
        assert len(session.kept) > 5
        records = session.system.snapshots.records
        assert records.copied < len(records.present) * len(session.kept) / 2


def test_no_object_that_can_change_belongs_to_two_records() -> None:
    """Else the records would have one each after a restore; and a record is told only of what it owns."""
    session = Session(3)
    with session.system as system:
        for _ in range(15):
            system.run(fuel=session.dice.randrange(5 * PIECE))
            if under_way(system.kernel) is not None:
                continue
            records = [known.record for known in RecordKeeper(system.snapshots.records.roots).keep()]
            owners: dict[int, object] = {}
            alive = []
            for record in records:
                changing = {name for name, value in fields(record) if any(owned([value], KEPT))}
                if own_class(record) not in COUNTING:
                    assert changing <= {*FORMS[own_class(record)].guarded}
                for thing in owned([value for _, value in fields(record)], KEPT):
                    assert owners.setdefault(id(thing), record) is record, (thing, owners[id(thing)], record)
                    alive.append(thing)
            for record in records:
                set_class(record, own_class(record))
        assert len(owners) > 100


def test_records_that_are_not_touched_are_neither_copied_nor_given_back() -> None:
    with System([ImageFile(demo_image(cache_directory()))], SystemOptions(commands="cat README.TXT; ls")) as system:
        system.run(until=lambda: system.kernel.state.tasks.shell >= 0 and under_way(system.kernel) is None)
        keeper = system.snapshots.records
        first = system.snapshot()
        assert keeper.copied == len(first.records) > 30
        again = system.snapshot()
        assert again.records == first.records
        system.restore(first)
        assert (keeper.copied, keeper.given_back) == (len(first.records), 0)
        tasks = system.kernel.state.tasks
        _ = [(each.selector, each.process.name, each.priority) for each in tasks.threads.values()]
        system.snapshot()
        assert keeper.copied == len(first.records), "numbers cannot change, and a table tells of a change"
        assert len(tasks.finished) < 2
        assert system.snapshot().records is first.records, "it is what it was"
        assert keeper.copied == len(first.records) + 1, "a list was read, which might have been changed"
        system.run()
        gone = keeper.given_back
        system.restore(first)
        assert 0 < keeper.given_back - gone < len(first.records)


def test_a_write_a_removal_and_the_reading_of_a_list_each_touch_a_record_and_reading_a_number_does_not() -> None:
    owner = process()
    keeper = RecordKeeper([owner, thread(owner)])

    def copied() -> int:
        before = keeper.copied
        keeper.keep()
        return keeper.copied - before

    assert copied() == 2
    assert (owner.number, owner.threads is not None) == (1, True)
    assert copied() == 1, "whatever has the list can change what it holds"
    assert owner.name == "p"
    assert copied() == 0
    owner.exit_code = 3
    assert copied() == 1
    del owner.fault
    owner.fault = ""
    assert copied() == 1
    copies = copy.copy(owner), pickle.loads(pickle.dumps(owner))  # noqa: S301 - our own
    assert [(type(each), each.name, len(each.threads)) for each in copies] == [(Process, "p", 1)] * 2
    assert copied() == 2
    runs = [Run(1, 2, 1), Run(1, 2, 1), Run(1, 3, 1)]
    RecordKeeper(runs).keep()
    assert [repr(runs[0]), type(runs[0]) is Run] == ["Run(disk=1, first=2, count=1, status=None, watched=False)", False]
    RecordKeeper(runs).keep()
    assert (runs[0] == runs[1], runs[1] == runs[0], runs[0] == runs[2]) == (True, True, False)
    RecordKeeper(runs[:1]).keep()
    assert (runs[1] == runs[0], runs[0] == Run(1, 2, 1), runs[0] == 1) == (True, True, False)
    copied()
    assert type(owner) is not Process
    assert isinstance(owner, Process)
    assert repr(owner) == "<process 1 'p', 1 threads>"


def test_a_record_is_given_back_what_it_held_and_stays_the_same_object() -> None:
    owner = process()
    keeper = RecordKeeper([owner])
    kept = keeper.keep()
    windows, began = owner.windows, thread(owner)
    owner.pages[0x40_0000] = 0x5000
    owner.name, owner.windows = "renamed", {}
    later = keeper.keep()
    assert [known.record for known in later] == [owner, began]
    assert keeper.give_back(kept) == [owner]
    assert (owner.name, owner.pages, owner.threads, owner.windows) == ("p", {}, [], windows)
    assert {id(record) for record in keeper.give_back(later)} == {id(owner), id(began)}
    assert (owner.name, owner.pages, owner.threads) == ("renamed", {0x40_0000: 0x5000}, [began])
    owner.pages.clear()
    keeper.give_back(later)
    assert owner.pages == {0x40_0000: 0x5000}, "the copy is not what the record has been given"


def test_few_records_that_nothing_leads_to_any_more_are_kept_by_later_snapshots() -> None:
    owner = process()
    first = thread(owner)
    keeper = RecordKeeper([owner])
    keeper.keep()
    owner.threads.clear()
    kept = [keeper.keep()]
    for _ in range(50):
        thread(owner)
        kept.append(keeper.keep())
        owner.threads.clear()
        kept.append(keeper.keep())
    assert max(map(len, kept)) <= 4
    assert first not in [known.record for known in kept[-1]]
    owner.threads.append(first)  # sealed, but of a state that is no longer the present one
    first.name = "again"
    assert first in [known.record for known in keeper.keep()]
    first.name = "later"
    keeper.give_back(kept[-1])
    assert owner.threads == []
    again, before = (next(known for known in state if known.record is owner) for state in (keeper.keep(), kept[-1]))
    assert again.content == before.content


class Vague:
    __slots__ = ("thing",)
    thing: object


class Silent:
    __slots__ = ("thing",)


class Nested:
    __slots__ = ("pairs",)
    pairs: tuple[int, list[int]]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Vague, "it is not known how <class 'object'> is kept"),
        (Silent, "Silent does not say which type each of its fields has"),
        (Nested, "what a tuple holds is to stay as it is"),
    ],
)
def test_a_class_of_whose_fields_no_copy_can_be_made_is_refused(kind: type, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        Form(kind)


def test_what_belongs_to_a_record_is_copied_with_all_that_it_holds() -> None:
    form = Form(ReleaseQueue)
    queue = ReleaseQueue(posted=[(1, 2)], waiters=[7])
    queue.entries.append((3, 4))
    content = form.content(queue)
    queue.posted.append((5, 6))
    queue.entries.clear()
    queue.busy = True
    form.fill(queue, content)
    assert queue == ReleaseQueue(type(queue.entries)([(3, 4)]), posted=[(1, 2)], waiters=[7])


def test_a_count_of_changed_blocks_is_given_back_as_it_was() -> None:
    form, state = FORMS[CacheState], CacheState()
    state.held.update({4: 17, 5: 1})
    content = form.content(state)
    state.held.clear()
    form.fill(state, content)
    assert (state.held, type(state.held)) == (Counter({4: 17, 5: 1}), Counter)


def test_a_copy_that_is_interrupted_as_it_is_made_is_dropped_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    for kind in (Kept, ServerCopy):
        made = kind.__new__(kind)
        del made
    assert said == []
