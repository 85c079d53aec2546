"""Objects that count their changes, so that a snapshot copies one only after it has changed."""

from typing import Any, Self


class Counted:
    """A part of a hosted server's state that counts its changes.

    Setting or deleting an attribute counts by itself.  A method that changes what an attribute holds calls
    `count_change`, and so does one that hands out something that its caller may change.  What the attributes lead to
    belongs to this object alone, but for the server's memory, values that return themselves from `__deepcopy__`, and
    other objects that count.
    """

    __slots__ = ("changes",)
    changes: int

    def __new__(cls, *_arguments: object, **_named: object) -> Self:
        """Make one that has not changed."""
        made = super().__new__(cls)
        object.__setattr__(made, "changes", 0)
        return made

    def __init_subclass__(cls, **kwargs: object) -> None:
        """TypeError for a class with slots: the attributes are those of `__dict__`."""
        super().__init_subclass__(**kwargs)
        if vars(cls).get("__slots__"):
            raise TypeError(f"{cls.__name__} counts its changes, and has slots")

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        object.__setattr__(self, "changes", self.changes + 1)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        object.__setattr__(self, "changes", self.changes + 1)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of: it counts its own changes."""
        return vars(self)

    def count_change(self) -> None:
        """Note that what an attribute holds changes."""
        object.__setattr__(self, "changes", self.changes + 1)
