"""Job e: a topic and a stream into a Delta table, and a bare writer of such a table that is fed from memory."""

import json
import os
import pathlib
import shutil
import subprocess

from bench import Run
from data import PARTITIONS
from machine import Failed

HERE = pathlib.Path(__file__).resolve().parent

SCHEMA = "id long, name string, category string, amount double, ts long, note string"

# Both begin a table of their own and end when everything is committed.
SINK = """
[connectors.{name}]
connector.class = "delta-sink"
topics = "{topic}"
tasks.max = {tasks}
store.url = "file:{folder}"
tables.dir = ""
table.name.format = "table"
schema = "{schema}"
flush.interval.ms = 10000
flush.size = 100000000
flush.bytes = 1073741824
"""


class FromKafka:
    who = "Ottla"

    def __init__(self, bench):
        self.bench = bench

    def runs(self, case):
        bench = self.bench
        topic = bench.data.topic(case.data)
        name, folder = bench.fresh("delta")
        with folder as folder:
            worker = f'[worker]\nbootstrap.servers = "{bench.kafka}"\nstate.dir = "{folder}/state"\n'
            yield run(bench, self.who, case, folder, worker + sink(name, topic, case, folder))


class FromKinesis:
    """From a Kinesis in the same process, without AWS's limits of rate: what is measured is the program."""

    who = "Ottla"

    def __init__(self, bench):
        self.bench, self.stream = bench, None

    def runs(self, case):
        bench = self.bench
        if self.stream is None:
            self.fill(case)
        name, folder = bench.fresh("kinesis")
        with folder as folder:
            shutil.copytree(self.stream / "state", folder / "state")
            worker = f"""\
[worker]
bootstrap.servers = "embedded"
state.dir = "{folder}/state"

[connectors.get]
connector.class = "kinesis-source"
kinesis.endpoint = "embedded"
kinesis.stream = "rows"
kafka.topic = "rows"
kinesis.reads.per.second = 1000
tasks.max = {case.tasks}
value.converter = "bytes"
"""
            yield run(bench, self.who, case, folder, worker + sink(name, "rows", case, folder))

    def fill(self, case):
        """Puts the topic's records into a stream, once; each run gets a copy."""
        bench = self.bench
        topic = bench.data.topic(case.data)
        name, folder = bench.fresh("stream")
        file = folder.path / "run.toml"
        file.write_text(f"""\
[worker]
bootstrap.servers = "{bench.kafka}"
state.dir = "{folder.path}/state"

[connectors.{name}]
connector.class = "kinesis-sink"
topics = "{topic}"
kinesis.endpoint = "embedded"
kinesis.stream = "rows"
kinesis.create.stream.shards = {PARTITIONS}
kinesis.partition.key = "random"
value.converter = "bytes"
""")
        bench.machine.measure([bench.ottla, "run", file, "--until", "caught-up"], folder.path / "log")
        self.stream = folder.path


class Writer:
    """A bare writer, fed the topic's records from memory. It says itself what it took, without the reading of the lines."""

    who = "bare writer"

    def __init__(self, bench):
        self.bench = bench

    def runs(self, case):
        bench, records = self.bench, self.bench.data.records(case.data)
        program = bench.programs / "delta-floor"
        if not program.exists():
            yield Run(case, self.who, 0, unavailable="delta-floor is built with Ottla's binary, not beside another one")
            return
        bench.data.topic(case.data)
        _, folder = bench.fresh("writer")
        with folder as folder:
            command = [program, "--records", records, "--commit-rows", records // 2, "--dir", folder]
            command += ["--input", bench.data.lines(case.data)]
            used = bench.machine.measure(command, folder / "log")
        said = json.loads(used.output)
        wrong = "" if said["records"] == records else f"{said['records']:,} rows (not {records:,})"
        figures = said["seconds"], said["cpu_s"], used.peak_mib, used.others
        yield Run(case, self.who, records, *figures, wrong=wrong)


class Spark:
    """Structured Streaming, as one process with as many threads as there are cores, which reads the whole topic in one batch.

    Its time is that of its whole life, seconds of which are its start.
    """

    who = "Spark"
    once = True

    def __init__(self, bench):
        self.bench = bench
        self.cache = pathlib.Path(os.environ["OTTLA_BENCH_SERVICES"])

    def runs(self, case):
        bench, ddl = self.bench, SCHEMA.replace(" long", " bigint")
        python, jars = self.cache / "python/spark/bin/python", self.cache / "spark-jars"
        if not python.exists() or not jars.exists():
            yield Run(case, self.who, 0, unavailable="tests/services/install has not brought it")
            return
        topic, (_, folder) = bench.data.topic(case.data), bench.fresh("spark")
        with folder as folder:
            job = [python, HERE.parent / "peers/spark/job.py", bench.kafka, topic, folder / "table"]
            job += [folder / "checkpoint", ddl, f"{jars}/*:{self.kafka_jars()}/*", "2g"]
            used = bench.machine.measure(job, folder / "log")
            records = bench.data.records(case.data)
            wrong = bench.judged(miscounted(folder / "table", records), folder)
            yield Run(case, self.who, records, used.wall_s, used.cpu_s, used.peak_mib, used.others, wrong=wrong)

    def kafka_jars(self):
        """Spark's jars for Kafka, fetched once by Maven (12 MB)."""
        pom, jars = HERE.parent / "peers/spark/pom.xml", self.cache / "spark-kafka-jars"
        if not (jars / "pom.xml").exists() or (jars / "pom.xml").read_text() != pom.read_text():
            shutil.rmtree(jars, ignore_errors=True)
            fetch = ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies"]
            fetch += [f"-DoutputDirectory={jars}", "-DincludeScope=runtime"]
            if subprocess.run(fetch, stdout=subprocess.DEVNULL).returncode:
                raise Failed("Maven could not bring Spark's jars for Kafka")
            shutil.copy(pom, jars / "pom.xml")
        return jars


def sink(name, topic, case, folder):
    return SINK.format(name=name, topic=topic, tasks=case.tasks, folder=folder, schema=SCHEMA)


def run(bench, who, case, folder, configuration):
    (folder / "run.toml").write_text(configuration)
    command = [bench.ottla, "run", folder / "run.toml", "--until", "caught-up"]
    used = bench.machine.measure(command, folder / "log")
    records = bench.data.records(case.data)
    wrong = bench.judged(miscounted(folder / "table", records), folder)
    return Run(case, who, records, used.wall_s, used.cpu_s, used.peak_mib, used.others, wrong=wrong)


def miscounted(table, records):
    """What is wrong with a table, as another program reads it; empty if each record is there once."""
    script = """
import sys, json, deltalake, duckdb
rows = deltalake.DeltaTable(sys.argv[1]).to_pyarrow_dataset()
print(json.dumps(duckdb.sql("select count(*), count(distinct id) from rows").fetchall()[0]))
"""
    reader = os.environ.get("OTTLA_TEST_PYTHON", "python3")
    done = subprocess.run([reader, "-c", script, table], capture_output=True, text=True)
    if done.returncode:
        return f"the table can't be read: {done.stderr.strip()[-500:]}"
    rows, distinct = json.loads(done.stdout)
    return "" if rows == distinct == records else f"{rows:,} rows, {distinct:,} different ones (not {records:,})"
