"""Jobs a to d: Ottla takes a topic into objects of JSON lines. And who counts what is in a bucket."""

import dataclasses
import json
import shutil
import subprocess

from bench import Run
from data import PARTITIONS, SHAPES
from store import REGION

# The same five stand in Kafka Connect's words in peers/kafka_connect/jobs.py.
FIVE = """[
    { type = "replace-field", exclude = "save_location", renames = "index:ind" },
    { type = "cast", spec = "ind:int32,downloaded:string" },
    { type = "insert-field", timestamp.field = "ingested_at" },
    { type = "mask-field", fields = "poster_name" },
    { type = "timestamp-converter", field = "ingested_at", target.type = "string",
        format = "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'" },
]"""

TRANSFORMS = {"": "[]", "five": FIVE, "chain": '["clean-pin"]'}


class Ottla:
    """The whole life of `ottla run FILE --until caught-up`, from its start to its end."""

    def __init__(self, bench, who="Ottla"):
        self.bench, self.who = bench, who

    def runs(self, case):
        bench = self.bench
        topic, records = bench.data.topic(case.data), bench.data.records(case.data)
        name, folder = bench.fresh("s3")
        with folder as folder, bench.store.bucket() as bucket:
            file = configuration(bench, case, name, folder, bucket, topic)
            used = bench.machine.measure([bench.ottla, "run", file, "--until", "caught-up"], folder / "log")
            wrong, remark = miscounted(bench, bucket, case, records)
            if bench.options.smoke:
                wrong, remark = wrong or remark, ""  # A few records never fill the memory.
            wrong = bench.judged(wrong, folder)
        run = Run(case, self.who, records, used.wall_s, used.cpu_s, used.peak_mib, used.others)
        yield dataclasses.replace(run, wrong=wrong, remark=remark)


def configuration(bench, case, name, folder, bucket, topic):
    """Writes the file that `ottla run` takes. All that is not in it is as delivered."""
    include = ""
    if case.transforms == "chain":
        shutil.copy(bench.examples / "pinterest/cleaning.toml", folder)
        include = 'include = ["cleaning.toml"]'
    file = folder / "run.toml"
    file.write_text(f"""\
{include}
[worker]
bootstrap.servers = "{bench.kafka}"
state.dir = "{folder}/state"

[connectors.{name}]
connector.class = "s3-sink"
topics = "{topic}"
tasks.max = {case.tasks}
flush.size = {case.flush}
store.url = "{bench.store.url}"
s3.bucket.name = "{bucket.name}"
s3.region = "{REGION}"
aws.access.key.id = "{bench.store.key}"
aws.secret.access.key = "{bench.store.secret}"
transforms = {TRANSFORMS[case.transforms]}
""")
    return file


def miscounted(bench, bucket, case, records, prefix=""):
    """What is wrong with the objects of a run, empty if every record is there once; and what is remarkable.

    Remarkable is what is not in order, and objects that are not called and cut as flush.size says. A sink that runs
    short of memory may cut earlier, and others may call their objects as they like.
    """
    command = [bench.programs / "bench-objects", "--records", records, "--partitions", PARTITIONS]
    command += ["--flush", case.flush, "--field", "ind" if case.transforms else SHAPES[case.data].field]
    with bucket.files(bench.work, prefix) as folder:
        if not folder.exists():
            return "nothing was written", ""
        done = subprocess.run([str(part) for part in [*command, folder]], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip(), ""
    found = json.loads(done.stdout)
    every_record = {"lines": records, "distinct": records, "unknown": 0}
    well_cut = {"objects": records // case.flush, "out_of_order": 0, "wrongly_named": 0}
    return differences(found, every_record), differences(found, well_cut)


def differences(found, expected):
    return ", ".join(f"{found[of]:,} {of} (not {what:,})" for of, what in expected.items() if found[of] != what)
