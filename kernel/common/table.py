"""Tables: dictionaries that are records themselves."""

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Table(dict[Key, Value]):
    """A dictionary that is looked at far more often than it changes: a snapshot copies it only after a change.

    Its values are records, or cannot change.
    """

    __slots__ = ()
