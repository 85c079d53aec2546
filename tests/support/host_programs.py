"""Programs of the host, as oracles. A test that needs one which is not installed skips, and says why.

No other file of the tests starts such a program, so none can forget to (tests/tools/test_host_programs.py).  With
CALLGATE_NO_HOST_PROGRAMS in the environment none is found, as on a machine that has none.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HIDDEN = "CALLGATE_NO_HOST_PROGRAMS" in os.environ
PATH = "" if HIDDEN else os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
PACKAGES = (
    "Debian: binutils, dosfstools, mtools, e2fsprogs, exfatprogs, sleuthkit, genisoimage, zip, gdb, fdisk, gdisk, "
    "gcc, gcc-multilib, nasm, tmux, openssh-server, chromium, nodejs, emacs-nox; "
    "qemu-utils and others for other images, see .ci/run"
)
ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC", "MTOOLS_SKIP_CHECK": "1"}


def find(*names: str) -> str:
    """Return the path of the last of these programs; skip the test if one is missing."""
    path = None
    for name in names:
        path = shutil.which(name, path=PATH)
        if path is None:
            pytest.skip(f"{name} is not installed ({PACKAGES})")
    assert path is not None
    return path


def attempt(
    name: str, *arguments: object, data: bytes = b"", folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a program in a folder with `data` as its input; return its result, a failure too; skip without it."""
    command = [find(name), *map(str, arguments)]
    return subprocess.run(
        command, input=data, capture_output=True, cwd=folder, env=ENVIRONMENT | environment, check=False, timeout=100
    )


def run_binary(
    name: str, *arguments: object, data: bytes = b"", folder: Path | None = None, **environment: str
) -> bytes:
    """Run a program that must succeed and return its output; skip where it is not installed."""
    result = attempt(name, *arguments, data=data, folder=folder, **environment)
    assert result.returncode == 0, f"{result.args}: {result.stdout!r}{result.stderr!r}"
    return result.stdout


def run(name: str, *arguments: object, text: str = "", folder: Path | None = None, **environment: str) -> str:
    """Run a program that must succeed and return its output as text; skip where it is not installed."""
    output = run_binary(name, *arguments, data=text.encode(), folder=folder, **environment)
    return output.decode("utf-8", "replace")


def start(name: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a program and return it, with its standard error to read; skip where it is not installed."""
    command = [find(name), *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | environment,
    )
