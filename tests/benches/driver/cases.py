"""The plan: which cases there are, and who takes part in each."""

from bench import Case
from floors import FLOORS, LINES, Floor
from kafka_to_s3 import Ottla
from starting import Starting

TASKS = (1, 4, 16)
FLUSHES = (10_000, 50_000, 100_000)

# Ottla once more under another name: what differs between the two is what a difference has to exceed to mean anything.
AGAIN = "Ottla (again)"


def plan(bench):
    """Pairs of a case and those who take part in it, in the order of a round."""
    jobs = bench.options.jobs
    planned = []

    def add(case, *contenders):
        planned.append((case, [contender for contender in contenders if contender]))

    if "g" in jobs or "a" in jobs:
        wanted = FLOORS if "g" in jobs else [LINES]
        add(Case("g", "small records", "small"), *(Floor(bench, who) for who in wanted))
    if "a" in jobs:
        for flush in FLUSHES:
            for tasks in TASKS:
                control = (flush, tasks) == (FLUSHES[0], TASKS[0])
                case = s3_case(bench, "a", "small", flush, tasks)
                add(case, Ottla(bench), control and Ottla(bench, AGAIN))
    if {"b", "c", "g"} & set(jobs):
        wanted = FLOORS if "g" in jobs else [LINES]
        add(Case("g", "posts", "pin"), *(Floor(bench, who) for who in wanted))
    if "b" in jobs:
        for tasks in (1, 4):
            add(s3_case(bench, "b", "pin", 10_000, tasks), Ottla(bench))
    if "c" in jobs:
        for transforms in ("five", "chain"):
            add(s3_case(bench, "c", "pin", 10_000, 1, transforms), Ottla(bench))
    if "d" in jobs:
        add(Case("d", "an object for each record, 1 task", "few", 1, 1), Ottla(bench))
    if "s" in jobs:
        add(Case("s", "start and rest", "one", 1, 1), Starting(bench))
    return [(case, contenders) for case, contenders in planned if not case.flush or bench.data.divides(case.data, case.flush)]


def s3_case(bench, job, data, flush, tasks, transforms=""):
    what = {"": "", "five": "five transformations, ", "chain": "the cleaning chain, "}[transforms]
    title = f"{what}flush.size {flush:,}, {tasks} task{'s' if tasks > 1 else ''}"
    # With few records small objects, as many as otherwise.
    if bench.options.smoke:
        full = 3_200_000 if data == "small" else 320_000
        flush = max(1, flush * bench.data.records(data) // full)
    return Case(job, title, data, flush, tasks, transforms)
