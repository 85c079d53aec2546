"""Where the engine says that a block's code lies, and where the page tables say."""

import pytest
from callgate.kernel.machine.blocks.kinds import VARIABLE
from callgate.kernel.machine.cpu.translations import Translations
from callgate.kernel.system import System, SystemOptions


def test_the_code_of_each_block_of_a_boot_is_where_the_page_tables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "blocks")
    note, pages = Translations.note_block, set()

    def compare(
        self: Translations, linear: int, size: int, made_from: tuple[int, ...]
    ) -> tuple[bytes, tuple[int, ...]]:
        by_tables = note(self, linear, size, ())
        by_engine = note(self, linear, size, made_from)
        assert by_engine == by_tables, f"{linear:#x}"
        pages.update((linear >> 12, page) for page in made_from)
        return by_engine

    monkeypatch.setattr(Translations, "note_block", compare)
    with System([], SystemOptions(commands="echo hello", output=lambda _: None)) as system:
        system.run(fuel=10_000_000)
        assert system.exit_code == 0
    assert any(linear == page for linear, page in pages), "before paging was turned on"
    assert sum(linear != page for linear, page in pages) > 5
