"""Errors that are answers to gdb."""


class Refused(Exception):
    """A packet that cannot be carried out; the text says why, in words for the user."""


class Unknown(Exception):
    """A packet that this stub does not know: the answer is empty (GDB manual, E.2)."""
