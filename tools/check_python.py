"""Report what is missing before `make` builds an environment; runs on any Python, old ones too."""

import sys


def missing() -> "str | None":
    """Return a sentence about what is missing, or None."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036 - this very check is for older ones
        return "callgate needs Python 3.11 or later; {} is {}. Name another one: make PYTHON=python3.12".format(  # noqa: UP032
            sys.executable, version
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        return f"this Python has no {error.name} module (Debian and Ubuntu: apt install python3-venv)"
    return None


if __name__ == "__main__":
    problem = missing()
    if problem:
        sys.stderr.write("make: " + problem + "\n")
        sys.exit(1)
