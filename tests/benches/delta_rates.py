#!/usr/bin/env python3
"""How fast topics and streams become Delta tables, beside Spark on the same topic.

See README.md in this folder.
"""

import argparse
import ctypes
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid

HERE = pathlib.Path(__file__).resolve().parent
SERVICES = HERE.parent / "services"
CACHE_HOME = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
CACHE = pathlib.Path(os.environ.get("OTTLA_CACHE") or pathlib.Path(CACHE_HOME) / "ottla") / "services"
READERS = CACHE / "python/readers/bin/python"
SPARK = CACHE / "python/spark/bin/python"

COLUMNS = [
    ("index", "long"),
    ("unique_id", "string"),
    ("title", "string"),
    ("description", "string"),
    ("poster_name", "string"),
    ("follower_count", "string"),
    ("tag_list", "string"),
    ("is_image_or_video", "string"),
    ("image_src", "string"),
    ("downloaded", "long"),
    ("save_location", "string"),
    ("category", "string"),
]
OTTLA_DDL = ", ".join(f"{name} {of}" for name, of in COLUMNS)
SPARK_DDL = ", ".join(f"`{name}` {'bigint' if of == 'long' else of}" for name, of in COLUMNS)

# Processes that outlive a case.
KEPT = set()

# How many different rows there are; the producer draws among them.
DISTINCT = 20_000


def main():
    options = arguments()
    become_the_parent_of_orphans()
    with tempfile.TemporaryDirectory(prefix="ottla-delta-rates-", dir=options.dir) as folder:
        work = pathlib.Path(folder)
        with Broker(work / "broker") as broker:
            rows = work / "rows.jsonl"
            size = write_rows(rows, options.seed)
            note(
                f"{options.records:,} records of {size:.0f} bytes on average, {options.partitions} partitions; seed {options.seed}"
            )
            broker.make_topic("bench-pin", options.partitions)
            broker.produce("bench-pin", rows, options.records)
            if "kinesis" in options.cases:
                note("filling the stream")
                fill_stream(options, broker, work)
            measured = measure(options, broker, work)
    print_table(options, size, measured)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ottla", type=pathlib.Path, help="the binary; a release build, for figures to keep")
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="each case so often, in turn; the median counts")
    parser.add_argument("--tasks", type=int, default=2, help="tasks of the sink")
    parser.add_argument("--cases", default="ottla,spark,kinesis", help="which of ottla, spark, kinesis")
    parser.add_argument("--spark-memory", default="2g", help="heap of Spark's one Java process")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", help="where the broker and the tables are written; needs 3 times the data")
    options = parser.parse_args()
    options.cases = options.cases.split(",")
    options.ottla = options.ottla.resolve()
    for needed in [options.ottla, READERS] + ([SPARK] if "spark" in options.cases else []):
        if not needed.exists():
            sys.exit(f"{needed} is not there: build the binary, and run tests/services/install")
    return options


def note(text):
    print(text, file=sys.stderr, flush=True)


# --- What is moved.


def write_rows(path, seed):
    """Rows in the shape of real posts, every text invented. Returns their mean size in bytes."""
    draw = random.Random(seed)
    words = "bright wide slow paper garden linen quiet walnut copper window harbour lantern morning pocket thread winter".split()
    text = lambda least, most: " ".join(draw.choice(words) for _ in range(draw.randint(least, most))).capitalize()
    total = 0
    with path.open("w", encoding="utf-8") as file:
        for number in range(DISTINCT):
            category = draw.choice("art beauty christmas education finance quotes tattoos travel vehicles".split())
            row = {
                "index": number,
                "unique_id": str(uuid.UUID(int=draw.getrandbits(128), version=4)),
                "title": text(4, 10),
                "description": text(15, 30),
                "poster_name": text(2, 3),
                "follower_count": draw.choice(
                    [f"{draw.randint(1, 999)}k", str(draw.randint(0, 999)), f"{draw.randint(1, 9)}M"]
                ),
                "tag_list": ",".join(text(2, 3) for _ in range(9)),
                "is_image_or_video": draw.choice(["image"] * 9 + ["video"]),
                "image_src": f"https://images.example.org/originals/{draw.getrandbits(128):032x}.jpg",
                "downloaded": 1,
                "save_location": f"Local save in /data/{category}",
                "category": category,
            }
            line = json.dumps(row, separators=(",", ":"))
            total += len(line)
            file.write(line + "\n")
    return total / DISTINCT


class Broker:
    """A Kafka broker of tests/services/kafka, for this measurement alone."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.address = f"127.0.0.1:{self.port}"
        (version,) = [path for path in CACHE.glob("kafka-*") if (path / "libs").is_dir()][-1:] or sys.exit(
            "no Kafka: run tests/services/install"
        )
        self.java = ["java", "-Xmx512m", "-cp", f"{version}/libs/*"]

    def __enter__(self):
        self.log = (self.folder.parent / "broker.log").open("w+")
        self.process = subprocess.Popen(
            [SERVICES / "kafka", str(self.port), self.folder], stdout=self.log, stderr=self.log
        )
        KEPT.add(self.process.pid)
        deadline = time.monotonic() + 90
        while "Kafka Server started" not in pathlib.Path(self.log.name).read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit("the broker did not start:\n" + pathlib.Path(self.log.name).read_text()[-2000:])
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def make_topic(self, topic, partitions):
        self.run(
            "org.apache.kafka.tools.TopicCommand",
            "--bootstrap-server",
            self.address,
            "--create",
            "--topic",
            topic,
            "--partitions",
            str(partitions),
            "--replication-factor",
            "1",
        )

    def produce(self, topic, rows, records):
        self.run(
            "org.apache.kafka.tools.ProducerPerformance",
            "--topic",
            topic,
            "--num-records",
            str(records),
            "--throughput",
            "-1",
            "--payload-file",
            str(rows),
            "--producer-props",
            f"bootstrap.servers={self.address}",
            "acks=all",
            "linger.ms=20",
            "batch.size=262144",
        )

    def run(self, *command):
        done = subprocess.run([*self.java, *command], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def free_port():
    """A port below the range that the kernel gives to outgoing connections."""
    while True:
        port = random.randint(10_000, 30_000)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def fill_stream(options, broker, work):
    """The topic's records once more, in an embedded Kinesis, whose folder each round gets a copy of."""
    (work / "fill.toml").write_text(f"""
[worker]
bootstrap.servers = "{broker.address}"
state.dir = "{work}/stream"

[connectors.fill]
connector.class = "kinesis-sink"
topics = "bench-pin"
kinesis.endpoint = "embedded"
kinesis.stream = "bench-pin"
kinesis.create.stream.shards = {options.partitions}
kinesis.partition.key = "random"
value.converter = "bytes"
""")
    run(work, "fill", [options.ottla, "run", work / "fill.toml", "--until", "caught-up"])


# --- The cases.


def measure(options, broker, work):
    cases = {"ottla": ottla_from_kafka, "spark": spark_from_kafka, "kinesis": ottla_from_kinesis}
    measured = {name: [] for name in options.cases}
    sums = set()
    for round in range(options.rounds):
        for name in options.cases:  # In turn, so that a slow minute of the machine meets all of them.
            folder = work / f"{name}-{round}"
            folder.mkdir()
            result = cases[name](options, broker, folder, round)
            sums.add(check(folder / "table", options.records))
            measured[name].append(result)
            note(
                f"round {round + 1}, {name}: {result['wall']:.1f} s, {result['cpu']:.1f} CPU-s, {result['rss'] / 1e6:.0f} MB"
            )
            shutil.rmtree(folder)
    if len(sums) != 1:
        sys.exit(f"the tables differ: {sums}")
    return measured


def ottla_from_kafka(options, broker, folder, round):
    (folder / "run.toml").write_text(f"""
[worker]
bootstrap.servers = "{broker.address}"
state.dir = "{folder}/state"

[connectors.rates-{round}]
connector.class = "delta-sink"
topics = "bench-pin"
tasks.max = {options.tasks}
{sink_options(folder)}
""")
    return run(folder, "ottla", [options.ottla, "run", folder / "run.toml", "--until", "caught-up"])


def ottla_from_kinesis(options, broker, folder, round):
    shutil.copytree(folder.parent / "stream", folder / "state")
    (folder / "run.toml").write_text(f"""
[worker]
bootstrap.servers = "embedded"
state.dir = "{folder}/state"

[connectors.get]
connector.class = "kinesis-source"
kinesis.endpoint = "embedded"
kinesis.stream = "bench-pin"
kafka.topic = "bench-pin"
kinesis.reads.per.second = 1000
tasks.max = {options.tasks}
value.converter = "bytes"

[connectors.rates]
connector.class = "delta-sink"
topics = "bench-pin"
tasks.max = {options.tasks}
{sink_options(folder)}
""")
    return run(folder, "ottla", [options.ottla, "run", folder / "run.toml", "--until", "caught-up"])


def sink_options(folder):
    return f'store.url = "file:{folder}"\ntables.dir = ""\ntable.name.format = "table"\nschema = "{OTTLA_DDL}"\n'


def spark_from_kafka(options, broker, folder, round):
    jars = f"{CACHE}/spark-jars/*:{kafka_jars()}/*"
    job = [
        SPARK,
        HERE / "delta_rates/spark_job.py",
        broker.address,
        "bench-pin",
        folder / "table",
        folder / "checkpoint",
        SPARK_DDL,
        jars,
        options.spark_memory,
    ]
    return run(folder, "spark", job)


def kafka_jars():
    """Spark's jars for Kafka, fetched once by Maven."""
    pom, jars = HERE / "delta_rates/pom.xml", CACHE / "spark-kafka-jars"
    if not (jars / "pom.xml").exists() or (jars / "pom.xml").read_text() != pom.read_text():
        note("downloading Spark's jars for Kafka (Maven, 12 MB)")
        shutil.rmtree(jars, ignore_errors=True)
        subprocess.run(
            [
                "mvn",
                "-q",
                "-B",
                "-f",
                pom,
                "dependency:copy-dependencies",
                f"-DoutputDirectory={jars}",
                "-DincludeScope=runtime",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        shutil.copy(pom, jars / "pom.xml")
    return jars


# --- Measuring.


def become_the_parent_of_orphans():
    """Spark's Java is not the child of this process: without this, what it used would be counted to somebody else."""
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(folder, name, command):
    """Runs a command and everything it starts: seconds, CPU-seconds, and the largest memory of its processes together."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    log = folder / f"{name}.log"
    with log.open("w") as err, (folder / f"{name}.out").open("w+") as out:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=out, stderr=err, stdin=subprocess.DEVNULL, cwd=folder
        )
        memory = Memory(process.pid)
        status = process.wait()
        wall = time.monotonic() - began
        memory.end()
        reap_orphans()
        out.seek(0)
        said = out.read()
    if status:
        sys.exit(f"{name} ended with {status}:\n{said[-3000:]}\n{log.read_text()[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    result = {"wall": wall, "cpu": cpu, "rss": memory.peak}
    for line in said.splitlines():
        if line.startswith('{"seconds_without_start"'):
            result["without_start"] = json.loads(line)["seconds_without_start"]
    return result


class Memory:
    """Looks at a process and its descendants every 50 ms. The peak of each one is what the kernel says."""

    def __init__(self, pid):
        self.pid, self.peaks, self.ended = pid, {}, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        while not self.ended.wait(0.05):
            for pid in family(self.pid):
                for line in read_proc(pid, "status").splitlines():
                    if line.startswith("VmHWM:"):
                        self.peaks[pid] = int(line.split()[1]) * 1024

    def end(self):
        self.ended.set()
        self.thread.join()
        self.peak = sum(self.peaks.values())


def family(pid):
    """A process and its descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = read_proc(entry, "stat").rpartition(")")[2].split()
            if len(fields) > 1:
                parents.setdefault(int(fields[1]), []).append(int(entry))
    found, look = [], [pid]
    while look:
        found.append(look.pop())
        look += parents.get(found[-1], [])
    return found


def read_proc(pid, name):
    try:
        return pathlib.Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def reap_orphans():
    """Waits for what a command has left running, such as Spark's Java that is on its way out."""
    for child in family(os.getpid())[1:]:
        deadline = time.monotonic() + 30
        while child not in KEPT and time.monotonic() < deadline:
            try:
                if os.waitpid(child, os.WNOHANG)[0]:
                    break
            except ChildProcessError:
                break
            time.sleep(0.05)


def check(table, records):
    """What the table holds, and whether that is everything: every row by its number, read by another program."""
    script = """
import sys, deltalake, duckdb, json
rows = deltalake.DeltaTable(sys.argv[1]).to_pyarrow_dataset()
sums = "sum(index)::bigint, sum(length(description) + length(tag_list))::bigint"
print(json.dumps(duckdb.sql(f"select count(*), {sums} from rows").fetchall()[0]))
"""
    reader = subprocess.run([READERS, "-c", script, table], capture_output=True, text=True)
    if reader.returncode:
        sys.exit(f"{table} can't be read:\n{reader.stderr[-2000:]}")
    seen = json.loads(reader.stdout)
    if seen[0] != records:
        sys.exit(f"{table} holds {seen[0]:,} rows, not {records:,}")
    return tuple(seen)


def print_table(options, size, measured):
    titles = {"ottla": "Kafka to Delta, Ottla", "spark": "Kafka to Delta, Spark", "kinesis": "Kinesis to Delta, Ottla"}
    print(
        f"{options.records:,} records of {size:.0f} bytes, {options.partitions} partitions, median of {options.rounds}\n"
    )
    print("| | records/s | records/s without start | records/CPU-s | memory MB |")
    print("|---|---|---|---|---|")
    figures = {}
    for name, results in measured.items():
        middle = lambda key: statistics.median(result.get(key, result["wall"]) for result in results)
        figures[name] = [
            options.records / middle("wall"),
            options.records / middle("without_start"),
            options.records / middle("cpu"),
            middle("rss") / 1e6,
        ]
        print(f"| {titles[name]} | " + " | ".join(f"{figure:,.0f}" for figure in figures[name]) + " |")
    if {"ottla", "spark"} <= figures.keys():
        ottla, spark = figures["ottla"], figures["spark"]
        ratios = [ours / theirs for ours, theirs in zip(ottla[:3], spark[:3])] + [ottla[3] / spark[3]]
        print("| Ottla / Spark | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
