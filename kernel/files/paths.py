"""Paths of programs: absolute ones, and those that begin in a current directory."""

from __future__ import annotations

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.errors import CallerError, error_of_code
from callgate.kernel.core.records import Endpoints, EndpointState
from callgate.kernel.storage.disks import place_of


def absolute(directory: bytes, path: bytes) -> bytes:
    """Return a path that begins at a directory: `.` is left out, and `..` removes the name before it."""
    names: list[bytes] = []
    for name in (directory + b"/" + path).split(b"/"):
        if name == b"..":
            del names[-1:]
        elif name not in {b"", b"."}:
            names.append(name)
    return b"/" + b"/".join(names) + b"/" * (path.endswith(b"/") and bool(names))


def listed(endpoints: Endpoints) -> list[EndpointState]:
    """Return the volumes that are mounted: the ROM, then those of disks in the order of their places."""
    there = [p for p in endpoints.by_number.values() if not (p.hidden or p.dead or p.mounting)]
    return sorted(there, key=lambda p: (p.disk >= 0, place_of(p.disk), p.start))


def resolve(endpoints: Endpoints, path: bytes) -> tuple[EndpointState | None, bytes]:
    """Split an absolute path into its volume and the rest; (None, b"") for the root directory."""
    if not path.startswith(b"/"):
        raise CallerError(ErrorCode.BAD_ARGUMENT, "a path starts with /")
    name, _, rest = path.lstrip(b"/").partition(b"/")
    if not name:
        return None, b""
    text = name.decode("utf-8", "replace").lower()
    error = ErrorCode.NOT_FOUND
    for endpoint in endpoints.by_number.values():
        if endpoint.name == text and not (endpoint.hidden or endpoint.mounting):
            if not endpoint.dead:
                return endpoint, rest
            error = endpoint.error
    raise error_of_code(error)
