"""Breakpoints: addresses before whose instruction a run ends.  Nothing is written into the guest."""

from collections.abc import Callable, Iterator

from callgate.kernel.machine.engine.control import Control
from callgate.kernel.machine.engine.sites import Sites

Address = int | str


class Breakpoints:
    """The breakpoints of one machine; `in`, iteration (in order of address) and len() work."""

    def __init__(self, sites: Sites, control: Control, resolve: Callable[[Address], int]) -> None:
        self.sites = sites
        self.control = control
        self.resolve = resolve
        self.numbers: dict[int, int] = {}
        self.enabled = True

    def add(self, place: Address, condition: Callable[[], bool] | None = None) -> int:
        """End runs at a linear address or symbol, if `condition()` holds there; return the address."""
        address = self.resolve(place)

        def hit() -> None:
            if self.enabled and (condition is None or condition()):
                self.control.request_stop("breakpoint", address)

        self.remove(address)
        self.numbers[address] = self.sites.call(address, hit)
        return address

    def remove(self, place: Address) -> None:
        """Remove a breakpoint, if there is one."""
        number = self.numbers.pop(self.resolve(place), None)
        if number is not None:
            self.sites.remove(number)

    def clear(self) -> None:
        """Remove all of them."""
        for address in list(self.numbers):
            self.remove(address)

    def __contains__(self, place: Address) -> bool:
        return self.resolve(place) in self.numbers

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.numbers))

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        return f"<breakpoints {' '.join(f'{address:#x}' for address in self) or 'none'}>"
