"""The base of the calls' enumerations: a member is a number and how the call is answered."""

from enum import Enum, IntEnum
from typing import Self


class Answered(IntEnum):
    """Calls of one kind.  A subclass narrows `answer` to its own enumeration of ways."""

    answer: Enum

    def __new__(cls, number: int, answer: Enum | None = None) -> Self:
        """Take the number, which is the value, and how the call is answered; TypeError without the latter."""
        if answer is None:
            raise TypeError(f"{cls.__name__} {number:#x} does not say how it is answered")
        call = int.__new__(cls, number)
        call._value_ = number
        call.answer = answer
        return call
