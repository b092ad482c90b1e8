"""What was promised of Ottla's speed and memory, each with the figure of this run.

All ratios are of records per processor second, in favour of Ottla: 2 means that it moves twice as many records for the
same processor time. A peer that a run does not have is compared through the drain: its figure over the drain's, from an
earlier measurement where both were had, beside Ottla's figure over the drain's of this run.
"""

import dataclasses
from typing import Callable, Optional

from floors import LINES


@dataclasses.dataclass
class Target:
    what: str
    least: Optional[float] = None  # The figure must be at least this,
    most: Optional[float] = None  # or at most this.
    figure: Optional[float] = None
    form: Callable = lambda value: f"{value:.2f}"

    def wanted(self):
        return f"at least {self.form(self.least)}" if self.least is not None else f"at most {self.form(self.most)}"

    def got(self):
        return "not measured" if self.figure is None else self.form(self.figure)

    def verdict(self):
        if self.figure is None:
            return ""
        reached = self.figure >= self.least if self.least is not None else self.figure <= self.most
        return "reached" if reached else "**not reached**"


# Processor time of a record in µs, measured on two cores of this class beside a drain that joined lines (0.70 µs for small
# records) or a plain one (1.05 µs for posts): (peer's, the drain's).
BEFORE = {
    ("a 10k", "Kafka Connect, warm"): (5.5, 0.70),
    ("a 10k", "Kafka Connect, fresh"): (8.7, 0.70),
    ("a 10k", "Redpanda Connect"): (3.1, 0.70),
    ("a 100k", "Kafka Connect, warm"): (4.25, 0.70),
    ("a 100k", "Kafka Connect, fresh"): (5.35, 0.70),
    ("b", "Kafka Connect, warm"): (17.6, 1.05),
    ("b", "Kafka Connect, fresh"): (35.5, 1.05),
    ("c", "Kafka Connect, warm"): (23.8, 1.05),
    ("c", "Kafka Connect, fresh"): (45.7, 1.05),
    ("c", "Redpanda Connect"): (29.2, 1.05),
}


def targets(results):
    return [target for target in [*speed(results), *memory(results), *starting(results)]]


def speed(results):
    wanted = [
        # The case, its key in BEFORE, and by how much to be ahead of whom.
        ("a", "flush.size 10,000, 1 task", "a 10k", [(LINES, 0.8), ("Redpanda Connect", 3), ("Kafka Connect, warm", 6), ("Kafka Connect, fresh", 9)]),
        ("a", "flush.size 100,000, 4 tasks", "a 100k", [("Kafka Connect, warm", 4), ("Kafka Connect, fresh", 6)]),
        ("b", "flush.size 10,000, 1 task", "b", [("Kafka Connect, warm", 7), ("Kafka Connect, fresh", 14)]),
        ("c", "five transformations, flush.size 10,000, 1 task", "c", [("Kafka Connect, warm", 6), ("Kafka Connect, fresh", 10), ("Redpanda Connect", 7)]),
    ]
    for job, title, key, rivals in wanted:
        case = find(results, job, title)
        if case is None:
            continue
        for rival, least in rivals:
            figure, how = ratio(results, case, key, rival)
            yield Target(f"({job}) {title}: records per CPU-second, ratio to {rival}{how}", least=least, figure=figure)
        if job == "a":
            yield from rates(results, case, key)
    if case := find(results, "d", ""):
        cpu = results.median(case, "Ottla", "cpu_s")
        milliseconds = cpu and cpu / results_records(results, case) * 1000
        form = lambda value: f"{value:.2f}"
        yield Target("(d) CPU ms an object (Kafka Connect: 7 ms, so at least 25 times)", most=7 / 25, figure=milliseconds, form=form)
        yield Target("(d) CPU ms an object, Redpanda Connect's 0.32 to 0.40", most=0.40, figure=milliseconds, form=form)


def ratio(results, case, key, rival):
    """How many times the rival's records per processor second Ottla reaches, and how that is known where it isn't plain."""
    ours = results.median(case, "Ottla", "per_cpu_second")
    drain = drain_of(results, case)
    if ours is None:
        return None, ""
    if rival == LINES:
        return (ours / drain if drain else None), ""
    theirs = results.median(case, rival, "per_cpu_second")
    if theirs:
        return ours / theirs, ""
    if drain and (key, rival) in BEFORE:
        peer, drain_before = BEFORE[key, rival]
        return ours / drain * peer / drain_before, " (through the drain)"
    return None, ""


def drain_of(results, case):
    floor = next((other for other in results.cases("g") if other.data == case.data), None)
    return floor and results.median(floor, LINES, "per_cpu_second")


def rates(results, case, key):
    rate = lambda value: f"{value:,.0f}"
    ours = results.median(case, "Ottla", "per_second")
    yield Target(f"({case.job}) {case.title}: records per second", least=1_000_000, figure=ours, form=rate)
    warm = results.median(case, "Kafka Connect, warm", "per_second")
    yield Target(
        f"({case.job}) {case.title}: records per second, ratio to Kafka Connect, warm",
        least=4,
        figure=ours / warm if ours and warm else None,
    )
    redpanda = results.median(case, "Redpanda Connect", "per_second") or 500_000
    yield Target(f"({case.job}) {case.title}: records per second, Redpanda Connect's", least=redpanda, figure=ours, form=rate)


def memory(results):
    form = lambda value: f"{value:.0f}"
    for case in results.cases("a"):
        if case.tasks != 16:
            continue
        ours = results.median(case, "Ottla", "peak_mib")
        # 150 MB are 143 MiB.
        yield Target(f"(a) {case.title}: peak memory, MiB", most=150e6 / 2**20, figure=ours, form=form)
        theirs = [
            value for who in ("Kafka Connect, warm", "Kafka Connect, fresh") if (value := results.median(case, who, "peak_mib"))
        ]
        if theirs:
            yield Target(f"(a) {case.title}: peak memory, a tenth of Kafka Connect's", most=min(theirs) / 10, figure=ours, form=form)


def starting(results):
    for case in results.cases("s"):
        start = results.median(case, "Ottla", "start_s")
        form = lambda value: f"{value:.0f}"
        yield Target("(s) start to first record, ms", most=50, figure=start and start * 1000, form=form)
        rest = results.median(case, "Ottla", "idle_mib")
        yield Target("(s) memory at rest, MiB", most=25e6 / 2**20, figure=rest, form=form)


def find(results, job, title):
    return next((case for case in results.cases(job) if case.title == title or not title), None)


def results_records(results, case):
    return max(run.records for run in results.runs if run.case == case)
