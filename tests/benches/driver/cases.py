"""The plan: which cases there are, and who takes part in each."""

import sys

import kafka_to_file
import kafka_to_s3
import rows_to_kafka
import to_delta
from bench import ONE_FILE, Case
from floors import BEFORE, FLOORS, LINES, Floor
from peers import peers
from rows_to_kafka import Database
from starting import Starting

TASKS = (1, 4, 16)
FLUSHES = (10_000, 50_000, 100_000)

# Ottla once more under another name: what differs between the two is what a difference has to exceed to mean anything.
AGAIN = "Ottla (again)"

# Where peers take part in job a, as flush.size and tasks. One of them needs as long as all of Ottla's cases together.
BESIDE_PEERS = [(10_000, 1), (100_000, 4), (100_000, 16)]


# With few records the extremes are enough to see that all works.
SMOKE = [(10_000, 1), (50_000, 4), (100_000, 16)]


def plan(bench):
    """Pairs of a case and those who take part in it, in the order of a round."""
    jobs, rivals = bench.options.jobs, peers(bench)
    planned = []
    if {"a", "g"} & set(jobs):
        planned.append((Case("g", "small records", "small"), floors(bench, "small")))
    if "a" in jobs:
        planned += small_records(bench, rivals)
        beside = [rival.only_once() for rival in rivals]
        planned.append((Case("a", ONE_FILE, "small"), [kafka_to_file.Ottla(bench), *beside]))
    if {"b", "c", "g"} & set(jobs):
        planned.append((Case("g", "posts", "pin"), floors(bench, "pin")))
    if "b" in jobs:
        planned.append((s3_case(bench, "b", "pin", 10_000, 1), [kafka_to_s3.Ottla(bench), *rivals]))
        planned.append((s3_case(bench, "b", "pin", 10_000, 4), [kafka_to_s3.Ottla(bench)]))
    if "c" in jobs:
        for transforms in ("five", "chain"):
            planned.append((s3_case(bench, "c", "pin", 10_000, 1, transforms), [kafka_to_s3.Ottla(bench), *rivals]))
    if "d" in jobs:
        case = Case("d", "an object for each record, 1 task", "few", 1, 1)
        planned.append((case, [kafka_to_s3.Ottla(bench), *rivals]))
    if "e" in jobs:
        case = Case("e", "from Kafka, 2 tasks", "row", tasks=2)
        spark = [to_delta.Spark(bench)] if bench.options.peers == "spark" else []
        planned.append((case, [to_delta.Writer(bench), to_delta.FromKafka(bench), *spark]))
        planned.append((Case("e", "from Kinesis, 2 tasks", "row", tasks=2), [to_delta.FromKinesis(bench)]))
    if "f" in jobs:
        for kind, title in (("postgres", "PostgreSQL"), ("mariadb", "MariaDB")):
            table = Database(bench, kind)
            beside = [rival.only_once(table) for rival in rivals]
            floors_of_rows = [rows_to_kafka.Read(bench, table), rows_to_kafka.ReadAndSend(bench, table)]
            contenders = [*floors_of_rows, rows_to_kafka.Ottla(bench, table), *beside]
            planned.append((Case("f", f"from {title}", "row"), contenders))
    if "s" in jobs:
        planned.append((Case("s", "start and rest", "one", 1, 1), [Starting(bench), *rivals]))
    return [(case, who) for case, who in planned if is_whole(bench, case)]


def is_whole(bench, case):
    """Whether every record ends up in an object: with another number of records some would wait for ever."""
    if not case.flush or bench.data.divides(case.data, case.flush):
        return True
    print(f"left out, {case.job}, {case.title}: the records of a partition are no multiple of it", file=sys.stderr)
    return False


def floors(bench, data):
    """All of them where floors are what was asked for, else those that ratios are taken to."""
    wanted = FLOORS if "g" in bench.options.jobs else dict.fromkeys([LINES, BEFORE[data]])
    return [Floor(bench, who) for who in wanted]


def small_records(bench, rivals):
    for flush in FLUSHES:
        for tasks in TASKS:
            if bench.options.smoke and (flush, tasks) not in SMOKE:
                continue
            contenders = [kafka_to_s3.Ottla(bench)]
            if (flush, tasks) == (FLUSHES[0], TASKS[0]):
                contenders.append(kafka_to_s3.Ottla(bench, AGAIN))
            if (flush, tasks) in BESIDE_PEERS:
                contenders += rivals
            yield s3_case(bench, "a", "small", flush, tasks), contenders


def s3_case(bench, job, data, flush, tasks, transforms=""):
    what = {"": "", "five": "five transformations, ", "chain": "the cleaning chain, "}[transforms]
    title = f"{what}flush.size {flush:,}, {tasks} task{'s' if tasks > 1 else ''}"
    # With few records small objects, as many as otherwise.
    if bench.options.smoke:
        full = 3_200_000 if data == "small" else 320_000
        flush = max(1, flush * bench.data.records(data) // full)
    return Case(job, title, data, flush, tasks, transforms)
