"""Event sites: instructions that stand for an event of the stream, probed only while there is a listener."""

from collections.abc import Callable, Iterable, Mapping

from callgate.kernel.common.record import record
from callgate.kernel.machine.engine.sites import Sites
from callgate.kernel.machine.observation.stream import EventStream

Fields = Callable[[], Mapping[str, object] | None]


@record(eq=True)
class EventSite:
    """An address, the kind of its event, the function that returns the fields, and the number of its probe or None.

    `fields()` returns None where the address means something else: another process's program.
    """

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
        self.providers: list[Callable[[], Iterable[EventSite]]] = []
        stream.changed.append(self._listeners_changed)
        stream.more_kinds.append(lambda: self.kinds)

    def add(self, address: int, kind: str, fields: Fields = dict) -> None:
        """Emit an event of `kind` with `fields()` before the instruction at `address`."""
        self._take([EventSite(address, kind, fields)])

    def provide(self, provider: Callable[[], Iterable[EventSite]]) -> None:
        """Ask `provider()` for sites, once, on the first listener or request for kinds: reading images takes time."""
        self.providers.append(provider)
        if self.stream.active:
            self._ask()

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds that have a site."""
        self._ask()
        return frozenset(site.kind for site in self.known)

    def _ask(self) -> None:
        providers, self.providers = self.providers, []
        for provider in providers:
            self._take(provider())

    def _take(self, sites: Iterable[EventSite]) -> None:
        for site in sites:
            self.known.append(site)
            self._follow(site)

    def _listeners_changed(self) -> None:
        if self.stream.active:
            self._ask()
        for site in self.known:
            self._follow(site)

    def _follow(self, site: EventSite) -> None:
        """Probe a site if its kind is listened to."""
        wanted = self.stream.wants(site.kind)
        if wanted and site.probe is None:
            site.probe = self.sites.call(site.address, self._emitter(site))
        elif not wanted and site.probe is not None:
            self.sites.remove(site.probe)
            site.probe = None

    def _emitter(self, site: EventSite) -> Callable[[], None]:
        def hit() -> None:
            fields = site.fields()
            if fields is not None:
                self.stream.emit(site.kind, **fields)

        return hit
