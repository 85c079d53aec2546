"""The check by disassembly: it finds the encodings that Keystone is known to get wrong, and others that it might."""

from collections.abc import Iterator

import pytest
from callgate.asm.assembler import AsmErrors, assemble_text
from callgate.asm.assembler.encoding import encode
from callgate.asm.assembler.encoding.branches import verify_branch
from callgate.asm.assembler.encoding.data import NOPS
from callgate.asm.assembler.encoding.instructions import Instruction
from callgate.asm.assembler.encoding.verify import decoder, verify
from callgate.asm.assembler.language.operands import FarPointer, Immediate, Memory, Operand, Register


def memory(bits: int = 32, segment: str = "", base: str = "", displacement: int = 0) -> Memory:
    return Memory(bits, segment, base, "", 1, displacement)


def instruction(mnemonic: str, *operands: Operand, repeat: str = "") -> Instruction:
    return Instruction(mnemonic, operands, repeat)


EAX, AX, AL, ECX = (Register(name) for name in ("eax", "ax", "al", "ecx"))

# What Keystone 0.9.2 gives for these, or might: instruction, wrong bytes, right bytes.
WRONG = [
    (instruction("push", Immediate(3, 32)), "666a03", "6a03"),
    (instruction("push", Immediate(0x12345678, 32)), "66687856", "6878563412"),
    (instruction("iretd"), "66cf", "cf"),
    (instruction("pushfd"), "669c", "9c"),
    (instruction("lgdt", memory(0, base="eax")), "660f0110", "0f0110"),
    (instruction("jmp", FarPointer(0x1B, 0x400000)), "66ea00001b00", "ea000040001b00"),
    (instruction("mov", memory(segment="ds", base="ebp"), EAX), "894500", "3e894500"),
    (instruction("mov", AL, Immediate(0x2C, 8)), "b02d", "b02c"),
    (instruction("mov", EAX, memory(base="ebx", displacement=8)), "8b4309", "8b4308"),
    (instruction("mov", EAX, memory(base="ebx")), "8b01", "8b03"),
    (instruction("mov", EAX, memory(base="ebx")), "8903", "8b03"),
    (instruction("mov", EAX, ECX), "668bc1", "8bc1"),
    (instruction("mov", AX, Register("cx")), "89c8", "6689c8"),
    (instruction("add", EAX, Immediate(1, 32)), "83e801", "83c001"),
    (instruction("add", memory(8, base="eax"), Immediate(1, 8)), "830001", "800001"),
    (instruction("inc", memory(base="eax"), repeat="lock"), "ff00", "f0ff00"),
    (instruction("inc", memory(base="eax")), "f0ff00", "ff00"),
    (instruction("movsd", repeat="rep"), "a5", "f3a5"),
    (instruction("movsd"), "66a5", "a5"),
    (instruction("mov", EAX, ECX), "89c890", "89c8"),
    (instruction("mov", EAX, memory(base="ebx")), "648b03", "8b03"),
    (instruction("ret"), "66c3", "c3"),
    (instruction("mov", Register("ds"), AX), "8ed9", "8ed8"),
    (instruction("mov", Register("ds"), AX), "8ec0", "8ed8"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "wrong", "right"), WRONG, ids=lambda value: value if isinstance(value, str) else None
)
def test_wrong_encodings_are_found_and_right_ones_pass(wanted: Instruction, wrong: str, right: str) -> None:
    assert verify(bytes.fromhex(wrong), wanted)
    assert verify(bytes.fromhex(right), wanted) is None


@pytest.fixture
def lying_keystone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let Keystone encode everything as `add eax, 1`."""
    encode.encoded.cache_clear()
    encode.core.cache_clear()
    monkeypatch.setattr(encode, "keystone", lambda _mnemonic, _operands: bytes.fromhex("83c001"))
    yield
    encode.encoded.cache_clear()
    encode.core.cache_clear()


@pytest.mark.usefixtures("lying_keystone")
@pytest.mark.parametrize(
    "source", ["add eax, 2", "sub eax, 1", "add ecx, 1", "add dword ptr [eax], 1", "inc eax", "hlt"]
)
def test_an_instruction_that_is_encoded_wrongly_is_an_error(source: str) -> None:
    assert assemble_text("add eax, 1").sections[0].data.hex() == "83c001"
    with pytest.raises(AsmErrors, match="would be encoded wrongly as 83 c0 01"):
        assemble_text(source)


@pytest.mark.parametrize(
    ("code", "mnemonic"),
    [("7402", "jne"), ("eb0290", "jmp"), ("e3fe", "jcxz"), ("66e90000", "jmp"), ("e800000000", "jmp")],
)
def test_wrongly_encoded_branches_are_found(code: str, mnemonic: str) -> None:
    assert verify_branch(bytes.fromhex(code), mnemonic)


@pytest.mark.parametrize(
    ("code", "mnemonic"),
    [("75fe", "jne"), ("eb02", "jmp"), ("67e3fe", "jcxz"), ("0f8400010000", "je"), ("e2f0", "loop")],
)
def test_rightly_encoded_branches_pass(code: str, mnemonic: str) -> None:
    assert verify_branch(bytes.fromhex(code), mnemonic) is None


def test_padding_is_one_nop_of_each_length() -> None:
    for length, code in enumerate(NOPS):
        assert len(code) == length
        assert [found.mnemonic for found in decoder().disasm(code, 0)] == ["nop"] * (length > 0)
