"""The table of docs/performance.md: every call of policy stands in it, measured under attack or with a reason."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from callgate.kernel.abi.calls import SystemCall
from callgate.kernel.system import System, SystemOptions


def load_script() -> ModuleType:
    """Return measure_host_calls.py as a module."""
    spec = importlib.util.spec_from_file_location(
        "measure_host_calls", Path(__file__).with_name("measure_host_calls.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


measure_host_calls = load_script()
ROW = re.compile(r"^\| `([a-z._]+)` \| ([\d,]+) \| ([\d,]*) ?\| ([\d.,]*) ?\| (.*) \|$", re.MULTILINE)


def rows() -> dict[str, tuple[str, ...]]:
    """Return calls, lines, milliseconds, and test or reason of each call in the table."""
    text = measure_host_calls.DOCUMENT.read_text(encoding="utf-8")
    table = text.partition(measure_host_calls.BEGIN)[2].partition(measure_host_calls.END)[0]
    return {name: tuple(rest) for name, *rest in ROW.findall(table)}


def registered() -> set[str]:
    """Return the names under which the machine counts calls of policy."""
    system = System([], SystemOptions())
    try:
        names: set[str] = set()
        for _, name, others in system.machine.host_calls.functions.values():
            names |= {name, *others.values()}
        return names
    finally:
        system.close()


def attacks() -> set[str]:
    """Return the names of the tests of this folder."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in measure_host_calls.FOLDER.rglob("test_*.py"))
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_table_of_host_call_costs_lists_exactly_the_calls_that_policy_answers() -> None:
    assert set(rows()) == registered()


def test_each_call_in_the_table_of_host_call_costs_names_a_test_or_why_there_is_none() -> None:
    known = attacks()
    for name, (calls, lines, _, last) in rows().items():
        if int(calls.replace(",", "")):
            assert int(lines.replace(",", "")), name
            assert last.strip("`") in known, name
        else:
            assert last == measure_host_calls.NOT_MEASURED[name], name


def test_policy_does_not_answer_calls_that_machine_code_answers() -> None:
    system = System([], SystemOptions())
    try:
        answered = {f"system.{SystemCall(number).name.lower()}" for number in system.kernel.system_calls.table}
    finally:
        system.close()
    by_machine_code = {f"system.{call.name.lower()}" for call in SystemCall} - answered
    reasons = measure_host_calls.NOT_MEASURED
    assert by_machine_code == {name for name in reasons if name.startswith("system.")}
