"""What is known of a call frame before an instruction, and what the instruction makes of it.

The top of a frame is the address above what the CPU pushed as the routine was entered: by a call EIP; by a call gate
to ring 0 EIP, CS, ESP, SS; by an interrupt EIP, CS, EFLAGS, and from ring 3 also ESP, SS (Intel SDM vol. 3, 6.8.3,
7.12.1).  Slots are named by their distance from it, in bytes, negative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from callgate.asm.assembler.output.debug.decoded import Decoded

TOP_SIZES: Final = {"call": 4, "gate": 16, "interrupt": 20, "none": 0, "unknown": 0}
#: Registers that routines save, in order of their numbers in `State`.
TRACKED: Final = ("eax", "ecx", "edx", "ebx", "ebp", "esi", "edi", "ds", "es", "fs", "gs", "eflags")
GENERAL: Final = frozenset(TRACKED[:7])
PUSHAD: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
CALLS: Final = ("call", "lcall")
Kept = tuple[bool, int | None]  # whether the register holds the caller's value; the slot that holds it
UNTOUCHED: Final[tuple[Kept, ...]] = ((True, None),) * len(TRACKED)


@dataclass(frozen=True, slots=True)
class State:
    """A frame: `depth` is the distance from ESP to its top; `alias` that from EBP, if EBP points into it.

    With `by_alias` ESP is not known, as after ESP has been aligned, and only EBP leads to the top.
    """

    kind: str
    depth: int
    kept: tuple[Kept, ...] = UNTOUCHED
    alias: int | None = None
    by_alias: bool = False

    @property
    def known(self) -> bool:
        """Whether there is a frame that can be told."""
        return self.kind not in ("none", "unknown")

    def joined(self, other: State) -> State:
        """Return what is known where two ways meet."""
        if self == other or other.kind == "none" or self.kind == "unknown":
            return self
        if self.kind == "none":
            return other
        if (self.kind, self.depth, self.by_alias) != (other.kind, other.depth, other.by_alias):
            return UNKNOWN
        alias = self.alias if self.alias == other.alias else None
        if self.by_alias and alias is None:
            return UNKNOWN
        kept = tuple((a and b, s if s == t else None) for (a, s), (b, t) in zip(self.kept, other.kept, strict=True))
        return replace(self, kept=kept, alias=alias)

    def after(self, code: Decoded, lost: Iterable[str]) -> State:
        """Return the frame after an instruction; a call loses the registers in `lost`."""
        if self.kind == "unknown":
            return self
        moved = MOVES.get(code.name)
        if moved is not None:
            return moved(self, code)
        state = self.losing(lost if code.name in CALLS else code.written)
        if "ebp" in code.written:
            state = replace(state, alias=self._new_alias(code))
            if self.by_alias and state.alias is None:
                return UNKNOWN
        if "esp" not in code.written or code.name in CALLS:
            return state
        return state._with_new_esp(code)

    def _new_alias(self, code: Decoded) -> int | None:
        if code.name == "mov" and code.text == "ebp, esp" and not self.by_alias:
            return self.depth
        return None

    def _with_new_esp(self, code: Decoded) -> State:
        """Return the frame after ESP has been given another value."""
        if code.added is not None and not self.by_alias:
            return self.raised(code.added)
        if code.name == "mov" and code.text == "esp, ebp" and self.alias is not None:
            return replace(self, depth=self.alias, by_alias=False)._without_slots_below()
        if self.alias is not None:
            return replace(self, by_alias=True, depth=0)
        return self if self.kind == "none" else UNKNOWN

    def pushed(self, register: str, size: int) -> State:
        """Return the frame after a push; of a register that holds the caller's value, it is a save."""
        if self.by_alias:
            return self
        state = replace(self, depth=self.depth + size)
        if register in TRACKED and size == 4:
            index = TRACKED.index(register)
            live, slot = self.kept[index]
            if live and slot is None:
                return state._keeping(index, (live, -state.depth))
        return state

    def popped(self, register: str, size: int) -> State:
        """Return the frame after a pop."""
        if self.by_alias:
            return self.losing((register,))
        state = self
        if register in TRACKED:
            index = TRACKED.index(register)
            state = self._keeping(index, (self.kept[index][1] == -self.depth, self.kept[index][1]))
        if register == "esp":
            return UNKNOWN
        if register == "ebp":
            state = replace(state, alias=None)
        return state.raised(size)

    def raised(self, size: int) -> State:
        """Return the frame after `size` bytes have been taken off the stack, or added if negative."""
        return replace(self, depth=self.depth - size)._without_slots_below()

    def losing(self, registers: Iterable[str]) -> State:
        """Return the frame after registers have been given other values."""
        state = self
        for register in registers:
            if register in TRACKED:
                index = TRACKED.index(register)
                if self.kept[index][0]:
                    state = state._keeping(index, (False, self.kept[index][1]))
        return state

    def _keeping(self, index: int, kept: Kept) -> State:
        return replace(self, kept=(*self.kept[:index], kept, *self.kept[index + 1 :]))

    def _without_slots_below(self) -> State:
        kept = tuple((live, slot if slot is None or slot >= -self.depth else None) for live, slot in self.kept)
        return self if kept == self.kept else replace(self, kept=kept)

    def clobbered(self) -> frozenset[str]:
        """Return the general registers that do not hold the caller's values."""
        return frozenset(name for name, (live, _) in zip(TRACKED, self.kept, strict=True) if not live) & GENERAL


UNKNOWN: Final = State("unknown", 0)


def entered(kind: str, pushed: int = 0) -> State:
    """Return the frame of a routine that was entered in a way, after `pushed` bytes."""
    return State(kind, TOP_SIZES[kind] + pushed)


def _push(state: State, code: Decoded) -> State:
    return state.pushed(code.text, code.stack_size)


def _pop(state: State, code: Decoded) -> State:
    return state.popped(code.text, code.stack_size)


def _push_all(state: State, code: Decoded) -> State:
    del code
    for register in PUSHAD:
        state = state.pushed(register, 4)
    return state


def _pop_all(state: State, code: Decoded) -> State:
    del code
    for register in reversed(PUSHAD):
        state = state.raised(4) if register == "esp" else state.popped(register, 4)
    return state


def _enter(state: State, code: Decoded) -> State:
    pushed = state.pushed("ebp", 4)
    aliased = replace(pushed.losing(("ebp",)), alias=pushed.depth)
    return aliased.raised(-(code.number or 0))


def _leave(state: State, code: Decoded) -> State:
    del code
    if state.alias is None:
        return state if state.kind == "none" else UNKNOWN
    return replace(state, depth=state.alias, by_alias=False)._without_slots_below().popped("ebp", 4)


MOVES: Final[dict[str, Callable[[State, Decoded], State]]] = {
    "push": _push,
    "pop": _pop,
    "pushal": _push_all,
    "popal": _pop_all,
    "pushfd": lambda state, code: state.pushed("eflags", code.stack_size),
    "popfd": lambda state, code: state.popped("eflags", code.stack_size),
    "pushf": lambda state, _code: state.pushed("", 2),
    "popf": lambda state, _code: state.popped("eflags", 2),
    "enter": _enter,
    "leave": _leave,
}
