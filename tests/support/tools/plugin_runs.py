"""Running pytest within a test, for tests of the plugin."""

import re
from typing import Any

import pytest
from callgate.asm.assembler.cache import cache_directory

# Plugins that cases have nothing to do with: pytest looks through each for fixtures at every start, and those for
# threads and finalizers collect garbage five times at the end.
UNUSED = (
    *("cacheprovider", "doctest", "faulthandler", "legacypath", "logging", "pastebin", "setuponly", "setupplan"),
    *("stepwise", "subtests", "threadexception", "unittest", "unraisableexception"),
)
# After an error of collection pytest would make a traceback through itself for the summary, which takes longest.
QUICKLY = (*(word for name in UNUSED for word in ("-p", f"no:{name}")), "--continue-on-collection-errors")

CACHE = cache_directory().parent  # before a test has another home
COMMAND = re.compile(r"^callgate debug .*$", re.MULTILINE)  # in a report: it opens a recording


def run_within(pytester: Any, *arguments: str) -> Any:
    """Run pytest in this process, in the folder of `pytester`, with no other installed plugin; return its result.

    pytest would look through the files of all packages for plugins whose assertions it is to rewrite. `pytester` has
    a home of its own, where nothing is assembled yet.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        patch.setenv("XDG_CACHE_HOME", str(CACHE))
        return pytester.runpytest_inprocess("-p", "callgate", *QUICKLY, *arguments)
