"""Plain English in code: words that make a native reader stumble, and names of tests that do not stand alone.

The rules are in docs/contributing.md.  Only patterns that are never right are looked for; the rest is for the reader.
"""

import re

from tests.house.test_sizes import ROOT, sources

#: A pattern, letters that all that it matches have (a file without them is not searched), and what to write instead.
STUMBLES = {
    r'(?:"""|[#;] |[.] )Who(?:ever)?\b(?![^.\n]*\?)': ("Who", "a thread (program, client, caller) that …"),
    r"\b[Ww]hoever\b": ("hoever", "a thread (program, client, caller) that …"),
    r"\bso (?:many|much)\b(?! that\b)": ("so m", "this many, a number of, a bounded number of"),
    r"\btaken away\b": ("taken away", "removed, unmapped, cleared"),
    r"\b(?:[Nn]obody|[Ss]omebody|[Aa]nybody)\b(?!/)": ("body", "no thread, another process, a client"),
    r"\bany more\b": ("any more", "no longer"),
}
#: Files that must hold such words: texts of other people, and this list.
ALLOWED = {
    "tests/house/test_english.py",
    "tests/server/ext2/test_ext2_trees.py",
    "tests/kernel/volumes/test_foreign_images.py",
    "tests/tools/plugin/test_cases_say_more.py",
    "tests/tools/plugin/test_coverage_of_assembly.py",
    "tests/tools/plugin/test_plugin_is_not_fooled.py",
}
#: Beginnings that say neither what a test is about nor what holds of it.
PRONOUNS = "it they he she this these those who whoever whose which of to are is was were".split()


def test_no_source_has_words_that_a_reader_stumbles_over() -> None:
    found = []
    for path in sources():
        if str(path) in ALLOWED:
            continue
        text = (ROOT / path).read_text()
        found += [
            f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}: write {instead}"
            for pattern, (letters, instead) in STUMBLES.items()
            if letters in text
            for match in re.finditer(pattern, text)
        ]
    assert found == []


def test_each_name_of_a_test_begins_with_its_subject() -> None:
    beginning = re.compile(rf"def (test_(?:{'|'.join(PRONOUNS)})_\w*)")
    tests = [path for path in sources() if path.parts[0] == "tests" and path.suffix == ".py"]
    assert {str(path): found for path in tests if (found := beginning.findall((ROOT / path).read_text()))} == {}
