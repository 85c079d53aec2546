"""How long a drive takes, in virtual time."""

from callgate.kernel.common.record import record


@record(frozen=True)
class Latency:
    """How long commands take, in ns of virtual time: fixed part, per sector, and whether NCQ may reorder."""

    command: int = 1000
    sector: int = 0
    reorder: bool = False
