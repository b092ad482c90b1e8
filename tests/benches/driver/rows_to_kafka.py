"""Job f: the rows of a table into a topic, and a bare driver that only reads them."""

import json
import os
import subprocess
import sys
import urllib.parse

from bench import Run
from kafka_to_s3 import differences

TABLE = "bench_rows"
COLUMNS = "id, name, category, amount, noted_at"


class Database:
    """A table in a database, made when the first run asks for it."""

    def __init__(self, bench, kind):
        self.bench, self.kind = bench, kind
        self.url = os.environ["OTTLA_TEST_POSTGRES" if kind == "postgres" else "OTTLA_TEST_MARIADB"]
        self.user, self.password = os.environ["OTTLA_TEST_DB_USER"], os.environ["OTTLA_TEST_DB_PASSWORD"]
        self.made = False

    @property
    def rows(self):
        return self.bench.data.records("row")

    def make(self):
        if self.made:
            return
        print(f"making {self.rows:,} rows in {self.kind}", file=sys.stderr, flush=True)
        address = urllib.parse.urlsplit(self.url)
        place = [f"--host={address.hostname}", f"--port={address.port}"]
        if self.kind == "postgres":
            place = ["--no-psqlrc", "--quiet", "--no-password", *place, f"--username={self.user}"]
            self.client(["psql", *place, "pinterest"], POSTGRES)
        else:
            place = ["--no-defaults", "--protocol=tcp", *place, f"--user={self.user}"]
            self.client(["mariadb", *place, "pinterest"], MARIADB)
        self.made = True

    def client(self, command, script):
        passwords = {"PGPASSWORD": self.password, "MYSQL_PWD": self.password}
        script = script.format(table=TABLE, last=self.rows - 1)
        done = subprocess.run(command, input=script, capture_output=True, text=True, env={**os.environ, **passwords})
        if done.returncode:
            sys.exit(f"the table in {self.kind} could not be made: {done.stderr}")


# Each row the same every time: what looks random is a multiple of a prime.
POSTGRES = """\
DROP TABLE IF EXISTS {table};
CREATE TABLE {table} (id bigint PRIMARY KEY, name text, category text, amount numeric(10, 2), noted_at timestamp);
INSERT INTO {table} SELECT i, 'user-' || i * 7919 % 1000000, 'category ' || i % 9, (i * 104729 % 1000000) / 100.0,
    timestamp '2021-09-26 19:49:23' + i * interval '1 second' FROM generate_series(0::bigint, {last}) AS i;
ANALYZE {table};
"""
MARIADB = """\
DROP TABLE IF EXISTS {table};
CREATE TABLE {table} (id bigint PRIMARY KEY, name text, category text, amount numeric(10, 2), noted_at datetime);
INSERT INTO {table} SELECT seq, concat('user-', seq * 7919 % 1000000), concat('category ', seq % 9),
    (seq * 104729 % 1000000) / 100.0, '2021-09-26 19:49:23' + INTERVAL seq SECOND FROM seq_0_to_{last};
ANALYZE TABLE {table};
"""


class Ottla:
    """The whole life of `ottla run FILE --until caught-up`."""

    who = "Ottla"

    def __init__(self, bench, database):
        self.bench, self.database = bench, database

    def runs(self, case):
        bench, database = self.bench, self.database
        database.make()
        name, folder = bench.fresh("rows")
        bench.data.fill(name, "small", 0)  # The topic, with as many partitions as the others.
        with folder as folder:
            file = folder / "run.toml"
            file.write_text(f"""\
[worker]
bootstrap.servers = "{bench.kafka}"
state.dir = "{folder}/state"

[connectors.{name}]
connector.class = "rds-source"
connection.url = "{database.url}"
connection.user = "{database.user}"
connection.password = "{database.password}"
mode = "bulk"
bulk.topics.{TABLE} = "{name}"
""")
            used = bench.machine.measure([bench.ottla, "run", file, "--until", "caught-up"], folder / "log")
            wrong = bench.judged(miscounted(bench, name, database.rows), folder)
        yield Run(case, self.who, database.rows, used.wall_s, used.cpu_s, used.peak_mib, used.others, wrong=wrong)


class Read:
    """A bare driver that reads all rows by one query and looks at each column."""

    who = "bare read"

    def __init__(self, bench, database):
        self.bench, self.database = bench, database

    def runs(self, case):
        yield self.read(case, COLUMNS, [])

    def read(self, case, columns, arguments):
        bench, database = self.bench, self.database
        database.make()
        url = database.url.replace("://", f"://{database.user}:{database.password}@")
        command = [bench.programs / "bench-rows", "--query", f"SELECT {columns} FROM {TABLE} ORDER BY id", *arguments]
        _, folder = bench.fresh("read")
        with folder as folder:
            used = bench.machine.measure(command, folder / "log", env={"DATABASE_URL": url})
        found = json.loads(used.output)["records"]
        wrong = "" if found == database.rows else f"{found:,} rows (not {database.rows:,})"
        return Run(case, self.who, database.rows, used.wall_s, used.cpu_s, used.peak_mib, used.others, wrong=wrong)


class ReadAndSend(Read):
    """The same driver, which also puts each row together as JSON and hands it to a bare producer."""

    who = "bare read and send"

    def runs(self, case):
        bench, kind = self.bench, self.database.kind
        topic, _ = bench.fresh("sent")
        bench.data.fill(topic, "small", 0)
        texts = "amount::text, noted_at::text"
        if kind == "mariadb":
            texts = "CAST(amount AS CHAR), CAST(noted_at AS CHAR)"
        run = self.read(case, f"id, name, category, {texts}", ["--bootstrap", bench.kafka, "--topic", topic])
        run.wrong = run.wrong or miscounted(bench, topic, run.records)
        yield run


def miscounted(bench, topic, rows):
    """What is wrong with the records in a topic; empty if each row is there once."""
    command = [bench.programs / "bench-drain", "--bootstrap", bench.kafka, "--topic", topic, "--records", rows]
    done = subprocess.run([str(part) for part in [*command, "--distinct", "id"]], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip()
    return differences(json.loads(done.stdout), {"held": rows, "distinct": rows})
