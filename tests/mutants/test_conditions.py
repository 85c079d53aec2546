"""Each condition of the kernel has a mutant, or a test that notices when it is switched, or a reason."""

import ast
import importlib.util
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import ModuleType

import conditions
import pytest
import search
import switching
from mutant_lists import ROOT, Mutant

SAMPLE = """
class Lock:
    def take(self, owner):
        if self.owner:
            if self.owner is owner:
                return "mine"
            raise ValueError("taken")
        elif owner is None:
            return None
        return "new" if owner else "none"

    def drop(self, owner):
        if self.owner is not owner:
            raise ValueError("not yours")
        if self.owner is not owner:
            return False
"""
NAMES = [
    "Lock.take: self.owner",
    "Lock.take: self.owner is owner",
    "Lock.take: owner is None",
    "Lock.take: owner",
    "Lock.drop: self.owner is not owner",
    "Lock.drop: self.owner is not owner (2)",
]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A project whose kernel's policy is one class, beside a machine and what watches it."""
    for room in ("locks", "machine", "watching", "abi"):
        (tmp_path / "kernel" / room).mkdir(parents=True)
        (tmp_path / "kernel" / room / "lock.py").write_text(SAMPLE)
    return tmp_path


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], tuple[Path, ModuleType]]:
    """Import a text as a module."""

    def load(text: str) -> tuple[Path, ModuleType]:
        path = tmp_path / "switched.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("switched", path)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return path, loaded

    return load


def switch(path: Path, change: switching.Change) -> None:
    """Change the conditions of a module's functions."""
    switching.replace(path, switching.functions_of([path])[path], change)


@pytest.fixture(scope="module")
def state() -> conditions.Account:
    return conditions.account()


def test_each_condition_of_the_kernel_has_a_mutant_or_a_test_that_notices_or_a_reason(state) -> None:
    missing = [condition.title for condition in state.missing]
    assert missing == [], "write an attack and a mutant; else: python tests/mutants/search.py --find"


def test_no_list_names_a_condition_that_the_kernel_does_not_have_or_that_another_list_has(state) -> None:
    assert state.stale == []


def test_the_tests_that_notice_a_condition_exist() -> None:
    texts: dict[str, str] = {}
    for listed in conditions.read_noticed().values():
        for test in listed.values():
            path, _, name = test.partition("::")
            text = texts.setdefault(path, (ROOT / path).read_text(encoding="utf-8"))
            case = f";@ case {name.partition('[')[0]}" if path.endswith(".asm") else f"def {name.partition('[')[0]}("
            assert case in text, test


def test_the_counts_and_reasons_of_the_security_document_are_those_of_the_lists(
    state, request: pytest.FixtureRequest
) -> None:
    document = ROOT / "docs" / "security.md"
    before, begin, rest = document.read_text(encoding="utf-8").partition("<!-- conditions -->\n")
    _, end, after = rest.partition("<!-- end of conditions -->")
    assert begin
    assert end
    wanted = f"{before}{begin}{conditions.table(state, conditions.read_left_out())}{end}{after}"
    if request.config.getoption("--refresh-transcripts"):
        document.write_text(wanted, encoding="utf-8")
    assert document.read_text(encoding="utf-8") == wanted, "pytest --refresh-transcripts tests/mutants"


def test_conditions_are_found_in_policy_alone_and_named_by_function_and_text(sample: Path) -> None:
    found = conditions.all_conditions(sample)
    assert [(one.file, one.name) for one in found] == [("kernel/locks/lock.py", name) for name in NAMES]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("        if self.owner:\n", "        if False:\n", [0]),
        ('                return "mine"\n', "                pass\n", [1]),
        ('            raise ValueError("taken")\n', "            pass\n", []),
        ('"new" if owner else', '"new" if True else', [3]),
        ('            raise ValueError("not yours")\n', "            pass\n", [4]),
        ("class Lock:\n", "class Lock:\n    SIZE = 4\n", []),
        ("            return False\n", "            return True\n", [5]),
    ],
    ids=["condition", "all of its body", "part of its body", "expression", "only statement", "nothing", "second"],
)
def test_a_mutant_names_the_conditions_that_it_changes_and_those_whose_whole_body_it_changes(
    sample: Path, old: str, new: str, named: list[int]
) -> None:
    assert SAMPLE.count(old) == 1
    mutant = Mutant("a lock", "kernel/locks/lock.py", old, new, (), "here")
    found = conditions.named_by_mutants(conditions.all_conditions(sample), [mutant], sample)
    assert sorted(NAMES.index(one.name) for one in found) == named


def test_a_condition_that_is_off_is_evaluated_and_does_not_hold(module) -> None:
    text = "asked = []\ndef f(x):\n    if asked.append(x) or x:\n        return 1\n    return 2 if x else 3\n"
    path, loaded = module(text)
    f = loaded.f  # taken before, as a `from … import` does
    switch(path, lambda name, test, _: switching.off(test) if name == "f: asked.append(x) or x" else test)
    assert (f(1), f(0), loaded.asked) == (2, 3, [1, 0])
    switch(path, lambda name, test, _: switching.off(test) if name == "f: x" else test)
    assert (f(1), f(0)) == (1, 3)


@pytest.mark.parametrize(
    ("operand", "holds"),
    [
        ("a", ["bd", "cd", "bcd", "abd", "acd", "abcd"]),
        ("b or c", ["ad", "abd", "acd", "abcd"]),
        ("b", ["acd", "abcd"]),
        ("c", ["abd", "abcd"]),
        ("not d", ["ab", "ac", "abc", "abd", "acd", "abcd"]),
    ],
)
def test_an_operand_that_is_off_is_evaluated_and_leaves_the_decision_to_the_others(
    module, operand: str, holds: list[str]
) -> None:
    text = "asked = []\ndef f(**is_in):\n    asked.clear()\n    a, b, c, d = (Asked(is_in[n]) for n in 'abcd')\n"
    text += "    if not (not (a and (b or c)) or not d):\n        return True\n    return False\n"
    text += "class Asked:\n    def __init__(self, holds):\n        self.holds = holds\n"
    text += "    def __bool__(self):\n        asked.append(self)\n        return self.holds\n"
    path, loaded = module(text)
    found: list[str] = []

    def change(name: str, test: ast.expr, value: bool) -> ast.expr:
        found.append(name)
        return switching.off(test, value) if name.endswith(f" / {operand}") else test

    switch(path, change)
    whole = "f: not (not (a and (b or c)) or not d)"
    operands = ("not (a and (b or c))", "not d", "a", "b or c", "b", "c")
    assert found == [*(f"{whole} / {one}" for one in operands), whole]
    subsets = ["".join(n for n, bit in zip("abcd", bits, strict=True) if bit) for bits in product((0, 1), repeat=4)]
    assert {s for s in subsets if loaded.f(**{n: n in s for n in "abcd"})} == set(holds)


def test_a_condition_is_switched_in_methods_closures_and_coroutines(module) -> None:
    path, loaded = module(
        "import types\n"
        "class A:\n    limit = property(lambda self: 1 if self else 2)\n"
        "def outer(y):\n    def inner(x):\n        if x > y:\n            return 'more'\n        return 'less'\n"
        "    return inner\n"
        "@types.coroutine\ndef step(x):\n    if x:\n        return x\n    return (yield)\n"
        "async def walk(x):\n    return await step(x)\n"
    )
    inner = loaded.outer(3)
    switch(path, lambda _name, test, _: ast.UnaryOp(ast.Not(), test))
    assert loaded.A().limit == 2
    assert (inner(5), loaded.outer(3)(5)) == ("less", "less")
    with pytest.raises(StopIteration, match="0"):
        loaded.walk(0).send(None)


def test_tests_that_take_no_time_are_tried_first_then_quick_attacks_then_budgets() -> None:
    names = ["units/a.py::at_once", "attacks/b.py::fast", "attacks/b.py::slower", "kernel/c.py::budget"]
    names += ["kernel/c.py::quick", "attacks/b.py::slow"]
    tests = [f"tests/{name}" for name in names]
    times = zip(tests, [0.001, 0.1, 0.3, 0.4, 0.02, 2.0], strict=True)
    lines = [{"test": test, "seconds": time, "true": ["f c"]} for test, time in times]
    other = {"test": tests[4], "seconds": 1, "true": ["f d"]}
    assert search.candidates([*lines[::-1], other]) == {"f c": tests, "f d": [tests[4]]}


def test_not_many_cases_of_one_test_and_not_many_tests_of_one_kind_are_tried() -> None:
    cases = [{"test": f"tests/units/a.py::t[{at}]", "seconds": 0.1 + at, "true": ["f c"]} for at in range(9)]
    other = {"test": "tests/units/a.py::other", "seconds": 8, "true": ["f c"]}
    tried = [*(f"tests/units/a.py::t[{at}]" for at in range(4)), "tests/units/a.py::other"]
    assert search.candidates([other, *cases])["f c"] == tried
    assert search.candidates([other, *cases], most=2)["f c"] == tried[:2]


def test_the_list_of_what_is_noticed_is_written_as_it_is_read(
    state, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [*state.conditions[:3], *state.conditions[-2:]]
    noticed = {one.file: {} for one in there}
    for one in there:
        noticed[one.file][one.name] = 'tests/a.py::test_b["c"-\\x00]'
    paths = (tmp_path / "noticed.toml", tmp_path / "noticed_jumps.toml")
    monkeypatch.setattr(search, "NOTICED", paths)
    search.write(noticed | {"kernel/gone.py": {"f: x": "tests/a.py::test_b"}}, there)
    assert conditions.read_noticed(paths) == noticed
    assert all('"]' in path.read_text() for path in paths)


@pytest.mark.thorough(only=True)
def test_a_condition_without_which_its_test_fails_is_noticed_and_another_is_not(tmp_path: Path) -> None:
    file, listed = next(iter(conditions.read_noticed().items()))
    name, test = next(iter(listed.items()))
    good = {"file": file, "name": name, "tests": [test]}
    results = search.switch({"try": [good, good | {"tests": []}]}, [test.partition("::")[0]])
    assert [result.get("failed") for result in results] == [test, None]


@pytest.mark.parametrize(
    ("new", "way", "named"),
    [
        ("        cmp     eax, 9\n", "never taken", True),
        ("", "never taken", True),
        ("        cmp     eax, 9\n", "always taken", False),
        ("        cmp     eax, 9\n        ja      .bad\n", "never taken", False),
    ],
    ids=["jump", "comparison and jump", "other way", "another jump there"],
)
def test_a_mutant_without_the_line_of_a_jump_is_the_jump_that_is_never_taken(
    tmp_path: Path, new: str, way: str, named: bool
) -> None:
    file, old = "asm/kernel/small.asm", "        cmp     eax, 9\n        jae     .bad\n"
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(f"first:\n{old}        inc     eax\n")
    jump = conditions.Condition(file, f"first: jae .bad, {way}", range(3, 4), kind=conditions.JUMP)
    mutant = Mutant("a limit", file, old, new, (), "here")
    assert conditions.named_by_mutants([jump], [mutant], tmp_path) == ({jump} if named else set())
    whole = Mutant("a limit", file, f"{old}        inc     eax\n", new, (), "here")
    assert conditions.named_by_mutants([jump], [whole], tmp_path) == set()
