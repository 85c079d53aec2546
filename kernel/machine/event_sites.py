"""Event sites: instructions that stand for an event of the stream, probed only while somebody listens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from callgate.kernel.machine.sites import Sites
from callgate.kernel.machine.stream import EventStream

Fields = Callable[[], Mapping[str, object]]


@dataclass(slots=True)
class EventSite:
    """An address, the kind of its event, what gives the fields, and the number of its probe while it has one."""

    address: int
    kind: str
    fields: Fields
    probe: int | None = None


class EventSites:
    """The event sites of one machine.  With no listener of a kind, its sites cost nothing at all."""

    def __init__(self, sites: Sites, stream: EventStream) -> None:
        self.sites = sites
        self.stream = stream
        self.known: list[EventSite] = []
        stream.changed.append(self._listeners_changed)

    def add(self, address: int, kind: str, fields: Fields = dict) -> None:
        """Emit an event of `kind` with `fields()` before the instruction at `address`."""
        self.known.append(EventSite(address, kind, fields))
        self._listeners_changed()

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds that have a site."""
        return frozenset(site.kind for site in self.known)

    def _listeners_changed(self) -> None:
        for site in self.known:
            wanted = self.stream.wants(site.kind)
            if wanted and site.probe is None:
                site.probe = self.sites.call(site.address, self._emitter(site))
            elif not wanted and site.probe is not None:
                self.sites.remove(site.probe)
                site.probe = None

    def _emitter(self, site: EventSite) -> Callable[[], None]:
        return lambda: self.stream.emit(site.kind, **site.fields())
