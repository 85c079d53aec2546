"""The host calls of an uncached read, in the order in which they are made."""

from typing import Any

from callgate.kernel.abi.calls import HostCall, SystemCall

ASKING = ["SYSTEM"]
ANSWERING = ["SERVER", "REPLIED", "SCHEDULE"]
ARRIVING = ["DISK_DONE", "FILE_READY", "YIELD", "RESUME"]


def calls_of_read(made: Any) -> list[str]:
    """Return the host calls from the first MAP_FILE to the return of that call."""
    found: list[str] = []
    reader = made.processes[0].threads[0]
    machine, kernel = made.system.machine, made.kernel

    def note(event: Any) -> None:
        current = kernel.scheduler.current
        number, value = event.fields["call"], event.fields["value"]
        if not found and (current is not reader or (number, value) != (HostCall.SYSTEM, SystemCall.MAP_FILE)):
            return
        found.append(HostCall(number).name)

    machine.stream.subscribe(note, kinds=["gate.host"])
    while kernel.scheduler.current is not reader or not found:
        machine.step()
        stop = made.run(until=kernel.guest.address("system_policy.answered"))
        assert stop.reason == "until", stop
    machine.stream.unsubscribe(note)
    return found
