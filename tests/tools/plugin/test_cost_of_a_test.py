"""What a test costs, counted: how often our Python is called for it, and which functions of the engine.

Time differs by host and load; these counts do not.  docs/performance.md, "Tests", has what they come to.
"""

import json

import pytest
from callgate.kernel.machine.blocks import kinds

# Imported here so that they stay imported: a run within this process forgets what it imported itself.
from callgate.tools.asmtest import booted
from callgate.tools.asmtest.cases import runner
from plugin_runs import run_within

LOADED = (booted, runner)

pytest_plugins = ["pytester"]

COUNTING = """
import json, sys
from collections import Counter
from unicorn.unicorn_py3.unicorn import uclib
import pytest

ENGINE = ["uc_emu_start", "uc_context_save", "uc_context_restore", "uc_reg_read", "uc_reg_write", "uc_ctl"]
counts = {}

def counted(name, engine):
    function = getattr(uclib, name)
    def call(*arguments):
        engine[name] += 1
        return function(*arguments)
    return call

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    if "3" not in item.name:  # the fourth of each kind, which finds all warm
        return (yield)
    calls, engine = [0], Counter()
    def note(frame, event, _argument):
        calls[0] += event == "call" and frame.f_globals.get("__name__", "").startswith("callgate.")
    before = sys.getprofile()
    with pytest.MonkeyPatch.context() as patch:
        for name in ENGINE:
            patch.setattr(uclib, name, counted(name, engine))
        sys.setprofile(note)
        try:
            return (yield)
        finally:
            sys.setprofile(before)
            counts[item.nodeid] = calls[0], engine

def pytest_sessionfinish():
    with open("counts.json", "w") as file:
        json.dump(counts, file)
"""
PYTHON = """
import pytest

@pytest.mark.parametrize("number", range(5))
def test_nothing(number):
    assert number >= 0

@pytest.mark.parametrize("number", range(5))
def test_empty_bare_cpu(bare_cpu, number):
    assert number >= 0

@pytest.mark.parametrize("number", range(5))
def test_call(bare_cpu, number):
    bare_cpu.load("double:\\n add eax, eax\\n ret\\n")
    assert bare_cpu.call("double", eax=number).eax == 2 * number

@pytest.mark.parametrize("number", range(5))
def test_booted(booted, number):
    assert booted.output == b""
"""
CASES = "double: add eax, eax\n ret\n" + "".join(
    f";@ case {number} is doubled\n;@   set     eax = {number}\n;@   call    double\n;@   expect  eax = {2 * number}\n"
    for number in range(5)
)
CALL_OF_A_ROUTINE = {  # the state is put back; registers are set; it runs; they are read
    "uc_context_save": 3,
    "uc_context_restore": 2,
    "uc_reg_write": 1,
    "uc_ctl": 1,
    "uc_emu_start": 1,
    "uc_reg_read": 4,
}
CASE_OF_REGISTERS = {  # all of the state is put back with the registers of the case in it, and read once
    "uc_context_save": 1,
    "uc_context_restore": 1,
    "uc_emu_start": 1,
    "uc_reg_read": 1,
}
COSTS = {  # calls of our functions, at most; of the engine, exactly
    "test_nothing": (3, {}),
    "test_empty_bare_cpu": (8, {}),
    "test_call": (123, CALL_OF_A_ROUTINE),
    "test_booted": (39, {"uc_context_restore": 1}),
    "case": (31, CASE_OF_REGISTERS),
}


@pytest.fixture
def costs(pytester, monkeypatch):
    """Run the tests under the clock that a machine chooses; return the counts of the last one of each kind."""
    monkeypatch.delenv(kinds.VARIABLE, raising=False)
    pytester.makeconftest(COUNTING)
    pytester.makepyfile(test_costs=PYTHON)
    pytester.path.joinpath("test_cases.asm").write_text(CASES)
    run_within(pytester).assert_outcomes(passed=25)
    found = json.loads(pytester.path.joinpath("counts.json").read_text())
    names = {name: f"test_costs.py::{name}[3]" for name in COSTS} | {"case": "test_cases.asm::3 is doubled"}
    return {name: found[test] for name, test in names.items()}


def test_a_test_costs_no_more_calls_of_python_and_of_the_engine_than_it_did(costs):
    calls = {name: called for name, (called, _) in costs.items()}
    assert {name: called for name, called in calls.items() if called > COSTS[name][0]} == {}
    assert [costs[name][1] for name in COSTS] == [engine for _, engine in COSTS.values()]
