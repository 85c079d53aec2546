"""docs/gates.md has one section for each function of each gate, in order, with the fixed headings."""

import re
from pathlib import Path

from callgate.kernel.abi.calls import Operation, ServerCall, SystemCall
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import OpenFlags

TEXT = (Path(__file__).parents[2] / "docs" / "gates.md").read_text()


def sections(kind: str) -> dict[str, str]:
    """Return the text of each section `kind`.NAME."""
    found = re.findall(rf"^### {kind}\.(\w+)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert len(dict(found)) == len(found), "a function has two sections"
    return dict(found)


def test_every_gate_function_has_a_section_in_the_order_of_the_numbers() -> None:
    for kind in (SystemCall, ServerCall, Operation):
        assert list(sections(kind.__name__)) == list(kind.__members__), kind.__name__


def test_every_section_of_the_gates_document_names_arguments_results_and_errors() -> None:
    for kind, third in ((SystemCall, "errors"), (ServerCall, "errors"), (Operation, "reply")):
        for name, text in sections(kind.__name__).items():
            headings = " ".join(re.findall(r"^\* \*\*(.*?):\*\*", text, re.MULTILINE)).lower()
            for word in ("arguments", "results", third):
                assert word in headings, f"{kind.__name__}.{name}: no {word}"


def test_every_error_and_flag_that_the_gates_document_names_exists() -> None:
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", TEXT)) - {"OPERATION_SERVER_DEFINED"}
    kinds = (ErrorCode, SystemCall, ServerCall, Operation, VolumeFlags, OpenFlags)
    known = {name for kind in kinds for name in kind.__members__}
    others = {
        "SELECTOR_SYSTEM_GATE",
        "SELECTOR_IPC_GATE",
        "SELECTOR_SERVER_GATE",
        "SERVER_CALL_NO_WAIT",
        "USER_ARGUMENTS",
        "FILE_SEQUENCE_NONE",
        "SERVER_ERRORS",
        "VOLUME_UNASKED",
        "VOLUME_BRIEFLY",
        "NAME_ABSENT",
        "OPEN_CLOSES",
    }
    assert named - known - others == set()
