"""Fixtures for tests that are not Python functions, in the way of doctests."""

from __future__ import annotations

from typing import Any

import pytest
from _pytest.fixtures import TopRequest  # the class of `request`; pytest has no public name for it


def fixture_value(item: pytest.Item, name: str) -> Any:
    """Return the value of a fixture for a test that is being set up; LookupError if there is none of that name."""
    request = getattr(item, "_request", None)
    if request is None:
        manager = item.session._fixturemanager
        options: dict[str, Any] = {"_fixtureinfo": manager.getfixtureinfo(node=item, func=None, cls=None)}
        for key, value in {**options, "funcargs": {}, "fixturenames": []}.items():
            setattr(item, key, value)
        request = TopRequest(item, _ispytest=True)  # type: ignore[arg-type]  # asks an item for no more than the above
        item._request = request  # type: ignore[attr-defined]
    try:
        return request.getfixturevalue(name)
    except pytest.FixtureLookupError as error:
        if error.argname == name:
            raise LookupError(f"there is no fixture {name}") from None
        raise
