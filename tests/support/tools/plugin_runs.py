"""Running pytest within a test, for tests of the plugin."""

import re
from typing import Any

# Without Hypothesis' plugin, which imports all of Hypothesis to write its summary.  After an error of collection pytest
# would make a traceback through itself for the summary, which takes longer than all the rest.
QUICKLY = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--continue-on-collection-errors")

COMMAND = re.compile(r"^callgate debug .*$", re.MULTILINE)  # in a report: it opens a recording


def run_within(pytester: Any, *arguments: str) -> Any:
    """Run pytest in this process, in the folder of `pytester`; return its result."""
    return pytester.runpytest_inprocess(*QUICKLY, *arguments)
