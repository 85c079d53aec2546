"""Servers that stop answering, in place of the installed ones."""

from typing import Any

import pytest
import silent_servers as servers
from callgate.kernel.abi.calls import Operation
from callgate.kernel.core.records import EndpointState
from callgate.kernel.servers import volumes
from callgate.server.fat.server import FatServer


def install(monkeypatch: pytest.MonkeyPatch, server: type[servers.Silent], **attributes: Any) -> None:
    """Have disks that begin as `servers.IMAGE` does served by `server`."""
    for name, value in attributes.items():
        monkeypatch.setattr(server, name, value)
    monkeypatch.setattr(volumes, "installed_servers", lambda: [server, FatServer])


def hush(monkeypatch: pytest.MonkeyPatch, *operations: Operation) -> None:
    """From now on no answer to these."""
    monkeypatch.setattr(servers.Silent, "silent", frozenset(operations))


def endpoint(made: Any, name: str) -> EndpointState:
    return next(p for p in made.kernel.state.endpoints.by_number.values() if p.name == name)
