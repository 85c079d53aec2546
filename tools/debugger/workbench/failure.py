"""What a command could not do, in words."""


class CommandError(Exception):
    """A command that was not carried out: what is wrong, and what to do."""
