"""What a process has used so far, read from /proc."""

import os
import pathlib

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and kernel time of all its threads."""
    # The name of the program stands in parentheses and may hold anything; the fields are counted after it.
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(pid):
    """The most memory it ever had resident."""
    return _memory(pid, "VmHWM")


def resident_mib(pid):
    """The memory it has resident now."""
    return _memory(pid, "VmRSS")


def _memory(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(f"process {pid} has ended")
