"""Running pytest within a test, for tests of the plugin."""

import re
from typing import Any

# Plugins that cases have nothing to do with: pytest looks through each for fixtures at every start, Hypothesis' imports
# all of Hypothesis to write its summary, and those for threads and finalizers collect garbage five times at the end.
UNUSED = (
    *("hypothesispytest", "xdist", "xdist.looponfail", "timeout", "cacheprovider"),
    *("doctest", "faulthandler", "legacypath", "pastebin", "setuponly", "setupplan", "stepwise", "subtests"),
    *("threadexception", "unittest", "unraisableexception"),
)
# After an error of collection pytest would make a traceback through itself for the summary, which takes longest.
QUICKLY = (*(word for name in UNUSED for word in ("-p", f"no:{name}")), "--continue-on-collection-errors")

COMMAND = re.compile(r"^callgate debug .*$", re.MULTILINE)  # in a report: it opens a recording


def run_within(pytester: Any, *arguments: str) -> Any:
    """Run pytest in this process, in the folder of `pytester`; return its result."""
    return pytester.runpytest_inprocess(*QUICKLY, *arguments)
