"""Information for programs about volumes: VOLUME_INFORMATION."""

from __future__ import annotations

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.volume import VolumeInformation
from callgate.kernel.core.control_block import field_text
from callgate.kernel.core.errors import GivenUp, Overdue, PolicyError
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import EndpointState
from callgate.kernel.ipc.requests import Requests

PATIENCE = 1_000_000_000  # nanoseconds of virtual time that a server has to describe its volume
BRIEFLY = 10_000_000  # the same for a caller that asks again later


class VolumeQueries:
    """Asks the servers of volumes."""

    def __init__(self, guest: Guest, requests: Requests) -> None:
        self.guest = guest
        self.requests = requests

    def known(self, endpoint: EndpointState) -> VolumeInformation:
        """Return the number, name and file system of a volume, which are known without asking its server."""
        information = VolumeInformation(number=endpoint.number)
        information.name = field_text(endpoint.name.encode(), 16)
        information.file_system = field_text(endpoint.file_system.encode(), 16)
        return information

    async def describe(self, endpoint: EndpointState, patience: int) -> VolumeInformation:
        """Ask a volume's server for its label and free space; fields that it does not answer stay zero.

        A server need not count free space; if it fails or dies, NO_FREE_SPACE is set, and if it does not answer within
        `patience` nanoseconds of virtual time, NOT_ANSWERED too.  Only KILLED and INTERRUPTED of the caller are raised.
        """
        information = self.known(endpoint)
        requests, deadline = self.requests, self.guest.now + patience
        try:
            reply = await requests.make_until(deadline, endpoint, Operation.VOLUME)
            information.flags = reply.registers.eax & ~VolumeFlags.NOT_ANSWERED
            information.serial = reply.registers.ebx
            information.label = field_text(await reply.take_data(), 64)
            reply = await requests.make_until(deadline, endpoint, Operation.FREE_SPACE)
            registers = reply.registers
            await reply.finish()
        except Overdue:
            information.flags |= VolumeFlags.NO_FREE_SPACE | VolumeFlags.NOT_ANSWERED
            return information
        except GivenUp:
            raise
        except PolicyError:
            information.flags |= VolumeFlags.NO_FREE_SPACE
            return information
        information.cluster_bytes = registers.ecx
        information.free_clusters = registers.edx << 32 | registers.eax
        information.total_clusters = registers.edi << 32 | registers.esi
        return information
