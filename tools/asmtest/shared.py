"""The machines of a test session: made when a test first needs them, and used by all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from callgate.tools.asmtest.bare.convention import Convention
    from callgate.tools.asmtest.bare.cpu import BareCpu
    from callgate.tools.asmtest.booted import BootedSystem

CPU = pytest.StashKey["BareCpu"]()
SYSTEMS = pytest.StashKey[dict[tuple[Path, ...], "BootedSystem"]]()


def shared_cpu(config: pytest.Config) -> BareCpu:
    """Return the session's bare CPU, made when it is first needed, and anew if a test has closed its machine."""
    cpu = config.stash.get(CPU, None)
    if cpu is None or cpu.machine.handle is None:
        from callgate.tools.asmtest.bare.cpu import BareCpu
        from callgate.tools.asmtest.board.programs import Programs

        include = [Path(item) for item in config.getini("callgate_include")]
        cpu = BareCpu(Programs(include), config.rootpath)
        cpu.convention = convention_of(config)
        config.stash[CPU] = cpu
    return cpu


def shared_system(config: pytest.Config, images: tuple[Path, ...]) -> BootedSystem:
    """Return the session's system with these disk images, booted when it is first needed, and anew if it is closed."""
    systems = config.stash.setdefault(SYSTEMS, {})
    system = systems.get(images)
    if system is None or system.machine.handle is None:
        from callgate.tools.asmtest.booted import BootedSystem

        system = systems[images] = BootedSystem(images)
    return system


def convention_of(config: pytest.Config) -> Convention | None:
    """Return the convention that the ini option `callgate_abi` names; UsageError if there is none."""
    from callgate.tools.asmtest.bare.convention import convention_named

    try:
        return convention_named(config.getini("callgate_abi"))
    except ValueError as error:
        raise pytest.UsageError(f"ini option callgate_abi: {error}") from None


def close_machines(config: pytest.Config) -> None:
    """Close the machines."""
    for booted in config.stash.get(SYSTEMS, {}).values():
        booted.close()
    if CPU in config.stash:
        config.stash[CPU].close()
        del config.stash[CPU]
