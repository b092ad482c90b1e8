"""What was promised of Ottla's speed and memory, each with the figure of this run.

All ratios are of records per processor second, in favour of Ottla: 2 means that it moves twice as many records for
the same processor time. A peer that a run does not have is compared through the drain: its figure over the drain's,
from an earlier measurement where both were had, beside Ottla's figure over the drain's of this run. That is so of
Kafka Connect with Confluent's sink, of which the promises speak; the sink of the bench's own does less work, and stands
beside it where the run has it.
"""

import dataclasses
from typing import Callable, Optional

import floors
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


# Processor time of a record in µs, measured on two cores of this class beside a drain that joined lines (0.70 µs for
# small records) or a plain one (1.05 µs for posts): (peer's, the drain's).
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


# Records a second of Kafka Connect in a warm JVM with Confluent's sink, from the same earlier measurement.
SECONDS_BEFORE = {"flush.size 10,000, 1 task": 245_000, "flush.size 100,000, 4 tasks": 377_000}

WARM, FRESH, REDPANDA = "Kafka Connect, warm", "Kafka Connect, fresh", "Redpanda Connect"

# The job and the title of the case, its key in BEFORE, and how many times whose records per processor second.
WANTED = [
    ("a", "flush.size 10,000, 1 task", "a 10k", {LINES: 0.8, REDPANDA: 3, WARM: 6, FRESH: 9}),
    ("a", "flush.size 100,000, 4 tasks", "a 100k", {WARM: 4, FRESH: 6}),
    ("b", "flush.size 10,000, 1 task", "b", {WARM: 7, FRESH: 14}),
    ("c", "five transformations, flush.size 10,000, 1 task", "c", {WARM: 6, FRESH: 10, REDPANDA: 7}),
    ("f", "from PostgreSQL", "", {"bare read": 0.6}),
    ("f", "from MariaDB", "", {"bare read": 0.6}),
]


def targets(results):
    return [*ratios(results), *rates(results), *objects(results), *memory(results), *starting(results)]


def ratios(results):
    for job, title, key, rivals in WANTED:
        for case in results.cases(job):
            if case.title == title:
                for rival, least in rivals.items():
                    what = f"({job}) {title}: records per CPU-second, ratio to {rival}"
                    if (key, rival) not in BEFORE:
                        yield Target(what, least=least, figure=ratio(results, case, rival))
                        continue
                    yield Target(f"{what} (through the drain)", least=least, figure=through_drain(results, case, key, rival))
                    if lighter := ratio(results, case, rival):
                        yield Target(f"{what}, with the bench's lighter sink", least=least, figure=lighter)


def ratio(results, case, rival):
    """How many times the records per processor second of a rival in the same run Ottla reaches."""
    ours = results.median(case, "Ottla", "per_cpu_second")
    theirs = drain_of(results, case, LINES) if rival == LINES else results.median(case, rival, "per_cpu_second")
    return ours / theirs if ours and theirs else None


def through_drain(results, case, key, rival):
    """The same for a rival that was measured earlier, beside a drain."""
    ours = results.median(case, "Ottla", "per_cpu_second")
    drain = drain_of(results, case, floors.BEFORE.get(case.data))
    peer, drain_before = BEFORE[key, rival]
    return ours / drain * peer / drain_before if ours and drain else None


def drain_of(results, case, who):
    """What a floor reached with the same records."""
    same = [other for other in results.cases("g") if other.data == case.data]
    return results.median(same[0], who, "per_cpu_second") if same else None


def rates(results):
    for case in results.cases("a"):
        if (case.title, "a") not in [(title, job) for job, title, _, _ in WANTED]:
            continue
        ours, warm = results.median(case, "Ottla", "per_second"), results.median(case, WARM, "per_second")
        name = f"(a) {case.title}: records per second"
        yield Target(name, least=1_000_000, figure=ours, form=thousands)
        yield Target(f"{name}, ratio to {WARM}, before", least=4, figure=ours / SECONDS_BEFORE[case.title] if ours else None)
        if ours and warm:
            yield Target(f"{name}, ratio to {WARM}, with the bench's lighter sink", least=4, figure=ours / warm)
        yield Target(f"{name}, those of {REDPANDA} before", least=500_000, figure=ours, form=thousands)


def objects(results):
    for case in results.cases("d"):
        cost = results.median(case, "Ottla", "per_cpu_second")
        figure = 1000 / cost if cost else None
        yield Target("(d) CPU ms an object, a 25th of Kafka Connect's 7", most=7 / 25, figure=figure)
        yield Target("(d) CPU ms an object, Redpanda Connect's 0.32 to 0.40", most=0.40, figure=figure)
        theirs = results.median(case, WARM, "per_cpu_second")
        both = cost / theirs if cost and theirs else None
        yield Target(f"(d) records per CPU-second, ratio to {WARM}, whose sink is lighter here", least=25, figure=both)


def memory(results):
    for case in results.cases("a"):
        if case.tasks != 16:
            continue
        ours = results.median(case, "Ottla", "peak_mib")
        yield Target(f"(a) {case.title}: peak memory, MiB", most=mebibytes(150), figure=ours, form=whole)
        theirs = [peak for who in (WARM, FRESH) if (peak := results.median(case, who, "peak_mib"))]
        if theirs:
            what = f"(a) {case.title}: peak memory, MiB, a tenth of Kafka Connect's"
            yield Target(what, most=min(theirs) / 10, figure=ours, form=whole)


def starting(results):
    for case in results.cases("s"):
        start = results.median(case, "Ottla", "start_s")
        yield Target("(s) start to first record, ms", most=50, figure=start and start * 1000, form=whole)
        rest = results.median(case, "Ottla", "idle_mib")
        yield Target("(s) memory at rest, MiB", most=mebibytes(25), figure=rest, form=whole)


def mebibytes(megabytes):
    return megabytes * 1e6 / 2**20


def thousands(value):
    return f"{value:,.0f}"


def whole(value):
    return f"{value:.0f}"
