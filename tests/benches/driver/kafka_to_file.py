"""The simplest sink of both sides, part of job a: a topic into one file, values as they come, by one task."""

import json
import subprocess

from bench import Run
from data import SHAPES
from kafka_to_s3 import differences


class Ottla:
    who = "Ottla"

    def __init__(self, bench):
        self.bench = bench

    def runs(self, case):
        bench = self.bench
        topic, records = bench.data.topic(case.data), bench.data.records(case.data)
        name, folder = bench.fresh("file")
        with folder as folder:
            (folder / "run.toml").write_text(f"""\
[worker]
bootstrap.servers = "{bench.kafka}"
state.dir = "{folder}/state"

[connectors.{name}]
connector.class = "file-sink"
topics = "{topic}"
file = "{folder}/written/lines"
value.converter = "string"
""")
            (folder / "written").mkdir()
            (folder / "counted").mkdir()
            command = [bench.ottla, "run", folder / "run.toml", "--until", "caught-up"]
            used = bench.machine.measure(command, folder / "log")
            # Its neighbour says how far the file has come, and is none of the lines.
            (folder / "written/lines").rename(folder / "counted/lines")
            wrong = bench.judged(miscounted(bench, folder / "counted", case, records), folder)
        yield Run(case, self.who, records, used.wall_s, used.cpu_s, used.peak_mib, used.others, wrong=wrong)


def miscounted(bench, folder, case, records):
    """What is wrong with the file; empty if each record is there once and in the order of its partition."""
    command = [bench.programs / "bench-objects", "--records", records, "--field", SHAPES[case.data].field, folder]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip()
    expected = {"lines": records, "distinct": records, "unknown": 0, "out_of_order": 0}
    return differences(json.loads(done.stdout), expected)
