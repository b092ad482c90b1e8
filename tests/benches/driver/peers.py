"""Peers: every executable in tests/benches/peers does the jobs it can, and says itself what it took.

`PEER install` brings what it needs. `PEER run --job JOB --bootstrap .. --topic .. --records N ..` does one job and
prints a line of JSON for each variant: {"variant": "fresh", "wall_s": .., "cpu_s": .., "peak_mib": .., "prefix" or
"topic": ..}. Its output stays for this driver to count. {"unavailable": ".."} says why it can't.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import kafka_to_s3
import rows_to_kafka
from bench import ONE_FILE, Run

HERE = pathlib.Path(__file__).resolve().parent.parent / "peers"

# What the table calls them.
TITLES = {"kafka-connect": "Kafka Connect", "redpanda-connect": "Redpanda Connect", "vector": "Vector"}


def peers(bench):
    """Those that were asked for, each installed."""
    # Spark is one of job e alone; see to_delta.py.
    if bench.options.peers in ("none", "spark"):
        return []
    found = sorted(path for path in HERE.iterdir() if path.is_file() and os.access(path, os.X_OK))
    if bench.options.peers == "kc":
        found = [path for path in found if path.name == "kafka-connect"]
    for path in found:
        print(f"installing {path.name}", file=sys.stderr, flush=True)
        if subprocess.run([path, "install"], stdout=subprocess.DEVNULL).returncode:
            print(f"{path.name} could not be installed; it will be missing in the table", file=sys.stderr)
    return [Peer(bench, path) for path in found]


class Peer:
    def __init__(self, bench, path, database=None, once=False):
        self.bench, self.path, self.database, self.once = bench, path, database, once
        self.who = TITLES.get(path.name, path.name)

    def only_once(self, database=None):
        """The same peer where it takes minutes: in the first round alone. It may read a database."""
        return Peer(self.bench, self.path, database, once=True)

    def runs(self, case):
        bench = self.bench
        records = bench.data.records(case.data)
        name, folder = bench.fresh(self.path.name)
        job = self.job(case)
        command = [self.path, "run", "--job", job, "--bootstrap", bench.kafka]
        command += ["--tasks", case.tasks, "--records", records]
        with folder as folder, bench.store.bucket() as bucket:
            if self.database:
                self.database.make()
                for topic in (name, f"{name}-warm"):
                    bench.data.fill(topic, "small", 0)
                command += ["--topic", name, "--table", rows_to_kafka.TABLE, "--database", self.database.url]
                command += ["--user", self.database.user, "--password", self.database.password]
            else:
                command += ["--topic", bench.data.topic(case.data)]
                command += ["--flush", case.flush] if case.flush else []
                command += ["--s3", bench.store.url, "--bucket", bucket.name]
                command += ["--key", bench.store.key, "--secret", bench.store.secret]
            used = bench.machine.measure(command, folder / "log")
            for said in map(json.loads, used.output.splitlines()):
                yield self.judged(case, said, used, bucket)

    def job(self, case):
        if case.job == "f":
            return f"f-{self.database.kind}"
        if case.job == "s":
            return "start"
        if case.title == ONE_FILE:
            return "file"
        return {"five": "c5", "chain": "c-clean"}.get(case.transforms, case.job)

    def judged(self, case, said, used, bucket):
        """A run as the peer reports it, and whether its output is what it must be."""
        if "unavailable" in said:
            return Run(case, self.who, 0, unavailable=said["unavailable"])
        records, wrong, remark = said["records"], "", ""
        expected = self.bench.data.records(case.data)
        if "prefix" in said:
            wrong, remark = kafka_to_s3.miscounted(self.bench, bucket, case, expected, said["prefix"])
        elif "topic" in said:
            wrong = rows_to_kafka.miscounted(self.bench, said["topic"], expected)
        elif said.get("counted") != expected:
            wrong = f"{said.get('counted')} records (not {expected})"
        run = Run(case, f"{self.who}, {said['variant']}", records, others=used.others, wrong=wrong, remark=remark)
        # What it needed for the one record of a start says nothing about records.
        of_interest = ("start_s", "idle_mib") if case.job == "s" else ("wall_s", "cpu_s", "peak_mib")
        return dataclasses.replace(run, **{of: said[of] for of in of_interest})
