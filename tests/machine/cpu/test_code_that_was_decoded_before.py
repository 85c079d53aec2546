"""What the filters know of code that an earlier process has decoded."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from callgate.kernel.common.remembered import Remembered
from callgate.kernel.machine.blocks import shapes
from callgate.kernel.machine.cpu import translations
from callgate.kernel.machine.filters import known_code, suspects

CODES = [
    "0f00d8eb00",  # ltr ax; jmp
    "f00fc7c8eb00",  # lock on a register
    "660f6f00d9e8c3",  # movdqa xmm0, [eax]; fld1; ret
    "6cf7f9ebfe",  # insb; idiv ecx
    "9090c3",
    "0000000000",
]
REPNE = 0xF2


def answered() -> list[object]:
    """Return what is found out about all of CODES."""
    found: list[object] = []
    for text in CODES:
        code = bytes.fromhex(text)
        found += [translations.straight(code + bytes(20), len(code))]
        found += [suspects.suspects(code, user=user) for user in (False, True)]
    return found


def counted() -> list[object]:
    """Return what blocks of CODES hold, as one instruction each, and as the number that there are."""
    return [shapes.contents(bytes.fromhex(text), count) for text in CODES for count in (1, 2, 3)]


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forget what this process knows, as one that begins."""

    def begin() -> None:
        known = Remembered()
        monkeypatch.setattr(translations, "answers", known)
        monkeypatch.setattr(suspects, "answers", known)
        of_blocks = Remembered()
        monkeypatch.setattr(translations, "block_answers", of_blocks)
        monkeypatch.setattr(shapes, "block_answers", of_blocks)
        shapes.contents.cache_clear()

    begin()
    return begin


def test_code_that_was_decoded_before_is_judged_the_same_without_a_decoder(process, tmp_path, monkeypatch):
    with known_code.kept_in(tmp_path):
        first = answered()
    (kept,) = tmp_path.iterdir()
    process()

    def decoder() -> None:
        raise AssertionError("all of it is known")

    for module, name in ((translations, "decoder"), (suspects, "decoder"), (suspects, "plain_decoder")):
        monkeypatch.setattr(module, name, decoder)
    with known_code.kept_in(tmp_path):
        assert answered() == first
    assert kept.exists()
    process()
    with pytest.raises(AssertionError, match="all of it is known"):
        answered()


def test_blocks_that_were_decoded_before_are_counted_the_same_without_a_decoder(process, tmp_path, monkeypatch):
    with known_code.kept_in(tmp_path):
        first = counted()
    assert {shapes.UNKNOWN, shapes.Contents((0, 1, 2), plain=True)} < set(first)
    process()

    def decoder() -> None:
        raise AssertionError("all of it is known")

    monkeypatch.setattr(shapes, "decoder", decoder)
    with known_code.kept_in(tmp_path):
        assert counted() == first
    process()
    with pytest.raises(AssertionError, match="all of it is known"):
        counted()


def test_answers_about_blocks_are_read_only_by_a_process_that_asks_for_one(process, tmp_path):
    with known_code.kept_in(tmp_path):
        counted()
    process()
    with known_code.kept_in(tmp_path):
        assert translations.block_answers.answers == {}
        shapes.contents(bytes.fromhex(CODES[0]), 1)
        assert len(translations.block_answers.answers) == 3 * len(CODES)


def test_another_decoder_than_the_packages_leaves_nothing_behind(process, tmp_path, monkeypatch):
    monkeypatch.setenv("LIBCAPSTONE_PATH", "/opt/lib")
    with known_code.kept_in(tmp_path):
        answered()
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_nothing_is_kept(process):
    with known_code.kept_in(None):
        answered()
    process()
    with known_code.kept_in(None):
        assert translations.answers.answers == {}


def test_names_of_kept_answers_follow_from_decoder_and_filters(tmp_path: Path) -> None:
    first = known_code.path_in(tmp_path)
    assert first is not None
    assert first == known_code.path_in(tmp_path)
    assert first.parent == tmp_path


def test_a_repeated_string_instruction_is_told_by_its_bytes_as_by_the_decoder():
    """Of string instructions and others, after up to two prefixes; what cannot be decoded is never executed.

    The decoder shows REPNE MOVSD as if it had no prefix (`test_exact_clock.py` executes it).
    """
    prefixes = [b"", *(bytes([one]) for one in suspects.PREFIXES)]
    opcodes = [*range(0x60, 0x70), *range(0x8E, 0xB2), *range(0xC0, 0xD0)]
    for first, second, opcode in product(prefixes, (b"", b"\xf2", b"\xf3"), opcodes):
        code = first + second + bytes([opcode]) + b"\x00" * 8
        found = suspects.decode(code)
        if found is None or "ret" in found.mnemonic:  # a prefix does not repeat RET
            continue
        wanted = str(found.mnemonic).startswith("rep") or (found.mnemonic == "movsd" and REPNE in first + second)
        assert suspects.repeats(code) == wanted, code.hex()
