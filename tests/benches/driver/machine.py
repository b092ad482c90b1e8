"""Processes and what they take of the machine: time, processor time, memory, and whether somebody else was busy too."""

import dataclasses
import os
import pathlib
import platform
import resource
import signal
import subprocess
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")

# Processor seconds per second that others may use before a run counts as disturbed.
DISTURBED = 0.2


@dataclasses.dataclass
class Usage:
    """What a process took from its start to its end."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    others: float  # Processor seconds per second of processes that do not belong to the measurement.
    output: str
    started: float


class Failed(Exception):
    """A program that is measured did not do its work."""


class Machine:
    """This machine, of which the measurement is the process `root` with all its descendants."""

    def __init__(self, root):
        self.root = root

    def describe(self):
        models = [line.partition(":")[2].strip() for line in lines("/proc/cpuinfo") if line.startswith("model name")]
        model = models[0] if models else "an unknown kind"
        memory = int(lines("/proc/meminfo")[0].split()[1]) / 1024**2
        return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Linux {platform.release()}"

    def measure(self, command, log, env=None, cwd=None, deadline=600):
        """Runs a command to its end, which must be a good one. Its standard error goes to the file `log`."""
        before = self.busy()
        with open(log, "wb") as err, open(f"{log}.out", "w+b") as out:
            started = time.monotonic()
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=cwd,
                env={**os.environ, **(env or {})},
            )
            peak = Peak(process.pid)
            killer = threading.Timer(deadline, process.kill)
            killer.daemon = True
            killer.start()
            try:
                _, status, used = os.wait4(process.pid, 0)
            except SystemExit:
                process.terminate()
                process.wait()
                raise
            wall = time.monotonic() - started
            killer.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            output = out.read().decode(errors="replace")
        after = self.busy()
        if process.returncode:
            end = pathlib.Path(log).read_text(errors="replace")[-2000:]
            raise Failed(f"{command[0]} ended with {process.returncode}:\n{output[-1000:]}\n{end}")
        others = max(0.0, (after[0] - before[0]) - (after[1] - before[1])) / max(after[2] - before[2], 0.001)
        return Usage(wall, used.ru_utime + used.ru_stime, peak.mib(used), others, output, started)

    def busy(self):
        """Processor seconds of everybody, those of the measurement, and the clock."""
        fields = [int(field) for field in lines("/proc/stat")[0].split()[1:]]
        # user, nice, system, and steal: what the host took away. What interrupts take belongs to nobody.
        everybody = fields[0] + fields[1] + fields[2] + fields[7]
        parents, used = {}, {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                stat = text(f"/proc/{entry}/stat").rpartition(")")[2].split()
                if len(stat) > 15:
                    parents.setdefault(int(stat[1]), []).append(int(entry))
                    # Own time and that of children that have ended, user and system each.
                    used[int(entry)] = sum(int(field) for field in stat[11:15])
        ours, look = 0, [self.root]
        while look:
            pid = look.pop()
            ours += used.get(pid, 0)
            look += parents.get(pid, [])
        return everybody / TICK, ours / TICK, time.monotonic()


class Peak:
    """The largest memory a process has had.

    wait4 knows it too, but for a small program tells that of this driver, from which the program was forked.
    So it is believed only where it is larger than the driver.
    """

    def __init__(self, pid):
        self.pid, self.seen = pid, 0.0
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        pause = 0.002
        while peak := status_mib(self.pid, "VmHWM"):
            self.seen = peak
            time.sleep(pause)
            pause = min(pause * 1.2, 0.05)  # Looking often is for those that end soon.

    def mib(self, used):
        at_end = used.ru_maxrss / 1024
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return max(self.seen, at_end) if at_end > own else self.seen


class Background:
    """A program that runs until it is told to end, as in `with Background(..) as process`."""

    def __init__(self, command, log, cwd=None):
        self.command, self.log, self.cwd = [str(part) for part in command], log, cwd

    def __enter__(self):
        self.err = open(self.log, "wb")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.err, stderr=self.err, cwd=self.cwd
        )
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.err.close()

    def seconds_until(self, arrived, deadline=30):
        """Seconds from the start until `arrived()`, asked again and again."""
        while not arrived():
            if self.process.poll() is not None or time.monotonic() - self.started > deadline:
                end = pathlib.Path(self.log).read_text(errors="replace")[-2000:]
                raise Failed(f"{self.command[0]} did not do its work within {deadline} s:\n{end}")
            time.sleep(0.0005)
        return time.monotonic() - self.started

    def mib(self):
        """Resident memory now."""
        return status_mib(self.process.pid, "VmRSS")


def status_mib(pid, field):
    for line in text(f"/proc/{pid}/status").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def text(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:  # A process that has just ended.
        return ""


def lines(path):
    return text(path).splitlines()
