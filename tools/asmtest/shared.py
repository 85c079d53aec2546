"""The machines of a test session: made when a test first needs them, and used by all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

if TYPE_CHECKING:
    from callgate.tools.asmtest.bare.convention import Convention
    from callgate.tools.asmtest.bare.cpu import BareCpu
    from callgate.tools.asmtest.booted import BootedSystem

CPU = pytest.StashKey["BareCpu"]()
SYSTEMS = pytest.StashKey[dict[tuple[Path, ...], "BootedSystem"]]()


class Shared:
    """The machines of one session."""

    config: pytest.Config | None = None  # of the session that has asked last, of which the others are
    cpu: BareCpu | None = None
    systems: ClassVar[dict[tuple[Path, ...], BootedSystem]] = {}

    @classmethod
    def choose(cls, config: pytest.Config | None) -> None:
        """Take the machines of a session from its stash: within one, to look there each time would take longer."""
        cls.config = config
        cls.cpu = None if config is None else config.stash.get(CPU, None)
        cls.systems = {} if config is None else config.stash.setdefault(SYSTEMS, {})


def shared_cpu(config: pytest.Config) -> BareCpu:
    """Return the session's bare CPU, made when it is first needed, and anew if a test has closed its machine."""
    if Shared.config is not config:
        Shared.choose(config)
    cpu = Shared.cpu
    if cpu is None or cpu.machine.handle is None:
        from callgate.tools.asmtest.bare.cpu import BareCpu
        from callgate.tools.asmtest.board.programs import Programs

        include = [Path(item) for item in config.getini("callgate_include")]
        cpu = BareCpu(Programs(include), config.rootpath)
        cpu.convention = convention_of(config)
        Shared.cpu = config.stash[CPU] = cpu
    return cpu


def shared_system(config: pytest.Config, images: tuple[Path, ...]) -> BootedSystem:
    """Return the session's system with these disk images, booted when it is first needed, and anew if it is closed."""
    if Shared.config is not config:
        Shared.choose(config)
    system = Shared.systems.get(images)
    if system is None or system.machine.handle is None:
        from callgate.tools.asmtest.booted import BootedSystem

        system = Shared.systems[images] = BootedSystem(images)
    return system


def convention_of(config: pytest.Config) -> Convention | None:
    """Return the convention that the ini option `callgate_abi` names; UsageError if there is none."""
    from callgate.tools.asmtest.bare.convention import convention_named

    try:
        return convention_named(config.getini("callgate_abi"))
    except ValueError as error:
        raise pytest.UsageError(f"ini option callgate_abi: {error}") from None


def close_machines(config: pytest.Config) -> None:
    """Close the machines of a session."""
    if Shared.config is config:
        Shared.choose(None)
    for booted in config.stash.get(SYSTEMS, {}).values():
        booted.close()
    if CPU in config.stash:
        config.stash[CPU].close()
        del config.stash[CPU]
