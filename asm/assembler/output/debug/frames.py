"""Follows the stack along the control flow of a unit: the call frame before each instruction.

A routine is what is called, and what nothing leads to; there a frame begins as `call` leaves it, or as `.frame` says.
Where two ways meet that disagree about the stack, the frame is unknown, and a backtrace ends.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from callgate.asm.assembler.output.debug.decoded import Decoded, decode
from callgate.asm.assembler.output.debug.frame_state import GENERAL, UNKNOWN, State, entered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callgate.asm.assembler.output.unit import Unit

ROUNDS_LIMIT: Final = 16
UNCLOBBERED: Final[frozenset[str]] = frozenset()


def stack_states(program: Unit) -> dict[int, State]:
    """Return the frame before each instruction of a unit; `.cfi_…` are not looked at."""
    return Flow(program).states


def jump_tables(program: Unit, jumps: list[int]) -> dict[int, list[int]]:
    """Return the local labels to which indirect jumps may lead, with those jumps: all of the same routine."""
    starts = sorted(symbol.address for symbol in program.symbols.values() if symbol.kind == "label")
    inside: dict[int, list[int]] = defaultdict(list)
    for jump in jumps:
        inside[bisect_right(starts, jump)].append(jump)
    locals_ = sorted(symbol.address for symbol in program.symbols.values() if symbol.kind == "local")
    return {label: inside[bisect_right(starts, label)] for label in locals_ if bisect_right(starts, label) in inside}


class Flow:
    """The analysis of one unit."""

    def __init__(self, program: Unit) -> None:
        self.codes = decode(program)
        self.order = sorted(self.codes)
        self.following = dict(pairwise(self.order))  # beyond the filling of an alignment, too
        self.labels = {symbol.address for symbol in program.symbols.values() if symbol.kind == "label"}
        self.called = {c.target for c in self.codes.values() if c.name == "call" and c.target not in (None, c.end)}
        self.jumped = {c.target for c in self.codes.values() if c.name != "call"}
        self.tables = jump_tables(program, [c.address for c in self.codes.values() if c.jumps_by_table])
        self.stated: dict[int, State] = {}
        self.likes: dict[int, list[int]] = defaultdict(list)
        self.followers: set[int] = set()
        for site in program.frame_sites:
            if site.word == ".frame" and site.name == "like":
                self.likes[site.operands[0]].append(site.address)
                self.followers.add(site.address)
            elif site.word == ".frame":
                self.stated[site.address] = entered(site.name, site.operands[0])
        if program.entry in self.codes:
            self.stated.setdefault(program.entry, entered("none"))
        #: Of routines whose addresses are in tables: some may be jumped to, after others have changed registers.
        self.unknown_entry = entered("call")
        self.resolved: set[int] = set()  # jumps by a table within their routine
        self.clobbers: dict[int, frozenset[str]] = {}
        self.states: dict[int, State] = {}
        self._settle()

    def _settle(self) -> None:
        """Repeat the analysis until it is known which registers each routine loses."""
        for _ in range(ROUNDS_LIMIT):
            self.states = {}
            self._round()
            clobbers, entry = self._clobbers(), self._unknown_entry()
            if (clobbers, entry) == (self.clobbers, self.unknown_entry):
                return
            self.clobbers, self.unknown_entry = clobbers, entry

    def _round(self) -> None:
        work = list(self.stated)
        self.states.update(self.stated)
        for address in self.called & self.codes.keys() - self.stated.keys() - self.followers:
            self.states[address] = entered("call")
            work.append(address)
        self._follow(work)
        for address in self.order:
            if address not in self.states and address in self.labels and address not in self.followers:
                self.states[address] = self.unknown_entry
                self._follow([address])
        for entry, jumps in self.tables.items():
            states = [self.states[jump] for jump in jumps if jump in self.states]
            if entry in self.codes and entry not in self.states and states:
                self.resolved.update(jumps)
                self.states[entry] = reduce(State.joined, states)
                self._follow([entry])
        for address in self.order:
            self.states.setdefault(address, UNKNOWN)

    def _follow(self, work: list[int]) -> None:
        while work:
            address = work.pop()
            for target, state in self._ways(address):
                known = self.states.get(target)
                joined = state if known is None else self._meet(target, known, state)
                if joined != known:
                    self.states[target] = joined
                    work.append(target)

    def _ways(self, address: int) -> Iterator[tuple[int, State]]:
        """Yield where an instruction leads, with the frame there."""
        state = self.states[address]
        for follower in self.likes.get(address, ()):
            yield follower, state
        code = self.codes[address]
        after = state.after(code, self._lost(code))
        if code.target is not None and code.name != "call" and self._may_enter(code.target):
            yield code.target, after
        following = self.following.get(address)
        if code.goes_on and following is not None and self._may_enter(following):
            if after.kind != "none" or following not in self.labels or following in self.jumped:
                yield following, after

    def _may_enter(self, address: int) -> bool:
        return address in self.codes and address not in self.stated and address not in self.followers

    def _meet(self, target: int, known: State, state: State) -> State:
        """Return the frame where a way arrives; how a routine is called is not changed by one that jumps to it."""
        if target in self.called and (known.kind, known.depth) != (state.kind, state.depth):
            return known
        return known.joined(state)

    def _lost(self, code: Decoded) -> frozenset[str]:
        """Return the registers that a call changes: unknown routines may change all, and gates all but EBP."""
        if code.name == "lcall":
            return GENERAL - {"ebp"}
        if code.target is None or code.target not in self.codes:
            return GENERAL
        return self.clobbers.get(code.target, UNCLOBBERED)

    def _unknown_entry(self) -> State:
        """Return the frame that indirect jumps to other routines leave, and indirect calls."""
        start = entered("call")
        jumps = [c.address for c in self.codes.values() if c.jumps_by_table and c.address not in self.resolved]
        tails = [self.states[jump] for jump in jumps]
        return reduce(State.joined, (s for s in tails if (s.kind, s.depth) == (start.kind, start.depth)), start)

    def _clobbers(self) -> dict[int, frozenset[str]]:
        """Return what the routines that are called change, as they return."""
        return {address: self._lost_by(address) for address in self.called & self.codes.keys()}

    def _lost_by(self, entry: int) -> frozenset[str]:
        lost: frozenset[str] = frozenset()
        seen, work = {entry}, [entry]
        while work:
            code = self.codes[work.pop()]
            if code.name == "ret":
                lost |= self.states[code.address].clobbered()
            target = None if code.name == "call" else code.target
            for way in (target, self.following.get(code.address) if code.goes_on else None):
                if way is not None and way in self.codes and way not in seen:
                    seen.add(way)
                    work.append(way)
        return lost
