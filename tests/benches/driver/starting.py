"""Job s: how long it takes from the start of the process to the first object, and the memory of a worker at rest."""

import dataclasses
import time

from bench import Run
from kafka_to_s3 import configuration
from machine import Background

# Seconds after which a worker counts as at rest.
REST = 5


class Starting:
    who = "Ottla"

    def __init__(self, bench):
        self.bench = bench

    def runs(self, case):
        bench = self.bench
        topic = bench.data.topic("one")
        name, folder = bench.fresh("start")
        with folder as folder, bench.store.bucket() as bucket:
            file = configuration(bench, dataclasses.replace(case, flush=1), name, folder, bucket, topic)
            first = f"topics/{topic}/partition=0/{topic}+0+0000000000.json"
            with Background([bench.ottla, "run", file], folder / "log") as process:
                start = process.seconds_until(lambda: bucket.has(first))
        yield Run(case, self.who, 1, start_s=start, idle_mib=self.at_rest(case))

    def at_rest(self, case):
        """Memory of a worker whose topic has nothing for it."""
        bench = self.bench
        name, folder = bench.fresh("idle")
        with folder as folder, bench.store.bucket() as bucket:
            bench.data.fill(name, "small", 0)
            file = configuration(bench, dataclasses.replace(case, flush=1), name, folder, bucket, name)
            with Background([bench.ottla, "run", file], folder / "log") as process:
                time.sleep(1 if bench.options.smoke else REST)
                return process.mib()
