"""What a process took, as the kernel tells the one who waits for it."""

import os
import shlex
import subprocess
import sys
import time
from typing import NamedTuple


class Took(NamedTuple):
    """Seconds of wall time and of processor time, and the largest resident set in bytes."""

    wall: float
    cpu: float
    memory: int


def wait(process, began):
    """Waits for a process that was started at `began` (time.monotonic); its exit code is in `process.returncode` then."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # ru_maxrss is in KiB on Linux.
    return Took(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def run(command, good=lambda code: code == 0, **options):
    """Runs a program to its end, which ends this one where its exit code is not good."""
    began = time.monotonic()
    process = subprocess.Popen(command, **options)
    took = wait(process, began)
    if not good(process.returncode):
        sys.exit(f"error: this ended with {process.returncode}: {shlex.join(map(str, command))}")
    return took
