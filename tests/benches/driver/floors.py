"""Job g: what a bare librdkafka consumer reaches, and what it reaches when it joins lines too."""

import json

from bench import Run

TUNED = ["--set", "fetch.queue.backoff.ms=1"]

# By the name in the table: the arguments of bench-drain.
FLOORS = {
    "drain, default settings": [],
    "drain, tuned": TUNED,
    "drain, tuned, joins lines": [*TUNED, "--join"],
    "drain, tuned, in batches": [*TUNED, "--by", "batch"],
    "drain, tuned, in batches, joins lines": [*TUNED, "--by", "batch", "--join"],
}

# What ratios are taken to.
LINES = "drain, tuned, joins lines"

# What stood beside the peers in the earlier measurement that targets.py compares with, by the name of the records.
BEFORE = {"small": LINES, "pin": "drain, tuned"}


class Floor:
    def __init__(self, bench, who):
        self.bench, self.who = bench, who

    def runs(self, case):
        bench = self.bench
        topic, records = bench.data.topic(case.data), bench.data.records(case.data)
        command = [bench.programs / "bench-drain", "--bootstrap", bench.kafka, "--topic", topic, "--records", records]
        _, folder = bench.fresh("drain")
        with folder as folder:
            used = bench.machine.measure([*command, *FLOORS[self.who]], folder / "log")
        found = json.loads(used.output)["records"]
        wrong = "" if found == records else f"{found:,} records (not {records:,})"
        yield Run(case, self.who, records, used.wall_s, used.cpu_s, used.peak_mib, used.others, wrong=wrong)
