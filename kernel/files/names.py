"""Names that are not there: a path that a server has not found is not asked for again.

A server vouches for such an answer (`NAME_ABSENT`).  When it says by DIRECTORY_CHANGED that a directory has changed,
all that is known of its volume's names is dropped.  What is known lies in the endpoint's record: it ends with the
server and with the disk, and no server has a say in what is known of another's names.
"""

from __future__ import annotations

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import ABSENT_NAMES
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.core.errors import GivenUp, NameAbsent, ServerShortage, Shortage
from callgate.kernel.core.records import EndpointState
from callgate.kernel.ipc.deferred_releases import DeferredReleases
from callgate.kernel.ipc.requests import RequestReply, Requests


class Names:
    """Requests that name a file or directory by its path."""

    def __init__(self, requests: Requests, releases: DeferredReleases) -> None:
        self.requests = requests
        self.releases = releases
        self.ram = requests.guest.ram

    def check(self, endpoint: EndpointState, operation: Operation, path: tuple[int, int]) -> None:
        """Raise NameAbsent if the server has said that an operation's path (kernel address, bytes) leads nowhere."""
        key = operation, self._name(path)
        if key in endpoint.absent:
            endpoint.absent.move_to_end(key)
            raise NameAbsent(ErrorCode.NOT_FOUND)

    async def open(self, endpoint: EndpointState, path: tuple[int, int], wanted: int) -> RequestReply:
        """As `ask` with OPEN, for up to `wanted` bytes of its first data; what was to be closed is closed by it."""
        self.check(endpoint, Operation.OPEN, path)
        requests, releases = self.requests, self.releases
        requests.threads.check_wait(requests.scheduler.current)
        closing = releases.take_along(endpoint)
        try:
            return await self.ask(endpoint, Operation.OPEN, path, wanted, closing)
        except (GivenUp, Shortage):
            if not requests.sent:
                releases.put_back(endpoint, closing)
            raise

    async def ask(
        self, endpoint: EndpointState, operation: Operation, path: tuple[int, int], ecx: int = 0, esi: int = 0
    ) -> RequestReply:
        """Make the request of an operation with a path (kernel address, bytes), as `Requests.make`.

        Without a request, NameAbsent if the server has said before that there is nothing at the path.
        """
        self.check(endpoint, operation, path)
        key = operation, self._name(path)
        changes = endpoint.name_changes
        try:
            try:
                return await self.requests.make(endpoint, operation, ecx=ecx, esi=esi, data=path)
            except ServerShortage:
                # It may lack what it holds for directories that no process has locked: it has not been told of all.
                if not self.releases.send_now(endpoint):
                    raise
                await self.releases.said(endpoint)
                return await self.requests.make(endpoint, operation, ecx=ecx, data=path)
        except NameAbsent:
            # A directory that has changed since the request was made may have the name by now.  The endpoint is alive:
            # what is raised for one that is not is its own error (`Requests.error_of`).
            if endpoint.name_changes == changes:
                endpoint.absent[key] = None
                if len(endpoint.absent) > ABSENT_NAMES:
                    endpoint.absent.popitem(last=False)
            raise

    def changed(self, endpoint: EndpointState) -> None:
        """DIRECTORY_CHANGED: forget what is not there."""
        endpoint.absent.clear()
        endpoint.name_changes += 1

    def _name(self, path: tuple[int, int]) -> bytes:
        address, size = path
        return bytes(self.ram.view(address - KERNEL_BASE, size))
