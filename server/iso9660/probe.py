"""Is this volume one of ISO 9660?  Asked of its first bytes, which may be anything.

What knows descriptors is imported only for bytes that have the identifier of one.
"""

from typing import ClassVar, Final

from callgate.kernel.abi.disks.volumes import ISO_FIRST_DESCRIPTOR, ISO_IDENTIFIER, ISO_LOGICAL_SECTOR
from callgate.server.hosted import Recogniser

_IDENTIFIER_OFFSET: Final = ISO_FIRST_DESCRIPTOR * ISO_LOGICAL_SECTOR + 1


class Iso9660Probe(Recogniser):
    """Claims ISO 9660 volumes."""

    name: ClassVar[str] = "iso9660"

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return ``rockridge``, ``joliet`` or ``iso9660`` if a volume that begins with ``first`` is one, else None."""
        if not first.startswith(ISO_IDENTIFIER, _IDENTIFIER_OFFSET):
            return None
        from callgate.server.iso9660.descriptors import kind_by_beginning

        return kind_by_beginning(first)
