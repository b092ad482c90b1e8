"""What Kafka Connect is given to do: the connector of each job, and how one sees that it has come to its end.

A job has the plugin it needs, the `records` it moves and in which pieces, `connector(name, variant)` for the connector's
configuration, `ended(worker)` for the time at which all was there, in seconds since 1970 (None while it is not), and
`output(variant)` for where it went. `poll_s` is the time between two looks.
"""

import re
import time
import urllib.parse

from .topics import Topics
from .worker import Failed

# Drop and rename, cast, insert, mask, convert a timestamp: the five transforms of job c5, on the fields of a post, with
# the options that driver/kafka_to_s3.py gives to Ottla's transforms of the same names.
FIVE_TRANSFORMS = {
    "transforms": "replace,cast,insert,mask,time",
    "transforms.replace.type": "org.apache.kafka.connect.transforms.ReplaceField$Value",
    "transforms.replace.exclude": "save_location",
    "transforms.replace.renames": "index:ind",
    "transforms.cast.type": "org.apache.kafka.connect.transforms.Cast$Value",
    "transforms.cast.spec": "ind:int32,downloaded:string",
    "transforms.insert.type": "org.apache.kafka.connect.transforms.InsertField$Value",
    "transforms.insert.timestamp.field": "ingested_at",
    "transforms.mask.type": "org.apache.kafka.connect.transforms.MaskField$Value",
    "transforms.mask.fields": "poster_name",
    "transforms.time.type": "org.apache.kafka.connect.transforms.TimestampConverter$Value",
    "transforms.time.field": "ingested_at",
    "transforms.time.target.type": "string",
    "transforms.time.format": "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'",
}


class Objects:
    """Kafka to S3: an object of JSON lines for every `flush` records of a partition."""

    plugin = "s3-sink"
    poll_s = 0.02

    def __init__(self, options, run_id):
        self.options, self.run_id = options, run_id
        self.flush, self.tasks = options.flush, options.tasks
        with Topics(options.bootstrap) as topics:
            held = topics.records(options.topic)
        check_topic(options, held)
        self.objects = sum(count // options.flush for count in held.values())
        if options.job.startswith("start"):
            self.objects = min(self.objects, 1)  # The first is waited for, and others are not looked at.
        self.records = self.objects * options.flush
        if not self.objects:
            raise Failed(f"no partition of {options.topic} holds {options.flush} records, so there would be no object")
        self.seen = set()

    def output(self, variant):
        return {"prefix": self.prefix(variant)}

    def prefix(self, variant):
        return f"kafka-connect/{self.run_id}/{variant}/"

    def connector(self, name, variant):
        options = self.options
        self.seen.clear()
        return {
            "name": name,
            "config": {
                "connector.class": "ottla.benches.S3Sink",
                "topics": options.topic,
                "tasks.max": str(options.tasks),
                "s3.endpoint": options.s3,
                "s3.bucket": options.bucket,
                "s3.access.key": options.key,
                "s3.secret.key": options.secret,
                "s3.prefix": self.prefix(variant),
                "flush.size": str(options.flush),
                **(FIVE_TRANSFORMS if options.job == "c5" else {}),
            },
        }

    def ended(self, worker):
        # The sink tells of each object in the log. To list the bucket instead would keep the S3 server busy.
        for at, message in worker.new_lines():
            if put := re.match(r"put \d+ records as (\S+)$", message):
                self.seen.add(put[1])
                if len(self.seen) == self.objects:
                    return at
        return None


class File:
    """Kafka to one file, by the sink of the distribution: values are texts, and nobody parses them."""

    plugin = "s3-sink"  # Not used; the sink lies in the distribution.
    poll_s = 0.02
    flush, tasks = None, 1  # More tasks would write over each other.

    def __init__(self, options, run_id):
        self.options = options
        with Topics(options.bootstrap) as topics:
            held = topics.records(options.topic)
        check_topic(options, held)
        self.records = sum(held.values())

    def output(self, variant):
        return {"counted": self.lines}

    def connector(self, name, variant):
        self.file, self.read_to, self.lines = self.options.folder / f"{name}.lines", 0, 0
        self.file.touch()
        return {
            "name": name,
            "config": {
                "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
                "topics": self.options.topic,
                "tasks.max": str(self.tasks),
                "value.converter": "org.apache.kafka.connect.storage.StringConverter",
                "file": str(self.file),
            },
        }

    def ended(self, worker):
        with self.file.open("rb") as file:
            file.seek(self.read_to)
            while piece := file.read(1 << 20):
                self.read_to += len(piece)
                self.lines += piece.count(b"\n")
        return time.time() if self.lines >= self.records else None


class Table:
    """A table to Kafka, by Debezium: its snapshot of the whole table, then nothing more.

    A second round in the same worker needs a topic of its own, `TOPIC-warm`.
    """

    plugin = "debezium"
    poll_s = 0.1  # Each look is a request to the broker.
    flush, tasks = None, 1  # Debezium knows no other number.

    def __init__(self, options, run_id):
        self.options, self.run_id, self.records = options, run_id, options.records
        self.url = urllib.parse.urlsplit(options.database)

    def output(self, variant):
        return {"topic": self.topic(variant), "counted": self.counted}

    def topic(self, variant):
        return self.options.topic if variant == "fresh" else f"{self.options.topic}-{variant}"

    def connector(self, name, variant):
        self.name, self.target = name, self.topic(variant)
        self.held_before = self.held()
        database = self.url.path.strip("/")
        config = {
            "tasks.max": str(self.tasks),
            "database.hostname": self.url.hostname,
            "database.port": str(self.url.port),
            "database.user": self.options.user,
            "database.password": self.options.password,
            "topic.prefix": self.run_id,
            "snapshot.mode": "initial_only",
            "include.schema.changes": "false",
            "decimal.handling.mode": "string",  # The default writes bytes in base64.
            # Rows, not changes: what a source that reads tables writes.
            "transforms": "row,topic",
            "transforms.row.type": "io.debezium.transforms.ExtractNewRecordState",
            "transforms.topic.type": "org.apache.kafka.connect.transforms.RegexRouter",
            "transforms.topic.regex": ".*",
            "transforms.topic.replacement": self.target,
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "key.converter.schemas.enable": "false",
        }
        if self.options.job == "f-postgres":
            config |= {
                "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
                "database.dbname": database,
                "table.include.list": self.qualified("public"),
                "plugin.name": "pgoutput",
                "slot.name": re.sub(r"\W", "_", name),
                "publication.autocreate.mode": "disabled",  # Nothing is followed after the snapshot.
            }
        else:
            config |= {
                "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
                "database.include.list": database,
                "table.include.list": self.qualified(database),
                "database.server.id": "5400",
                "snapshot.locking.mode": "none",
                "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
                "schema.history.internal.file.filename": str(self.options.folder / f"{name}.history"),
            }
        return {"name": name, "config": config}

    def qualified(self, schema):
        return self.options.table if "." in self.options.table else f"{schema}.{self.options.table}"

    def ended(self, worker):
        self.counted = self.held() - self.held_before
        if self.counted > self.records:
            raise Failed(f"{self.target} got {self.counted} records from a table of {self.records} rows")
        return time.time() if self.counted >= self.records else None

    def held(self):
        with Topics(self.options.bootstrap) as topics:
            return sum(topics.records(self.target).values())


def check_topic(options, held):
    if sum(held.values()) < options.records:
        raise Failed(f"{options.topic} holds {sum(held.values())} records, fewer than {options.records}")


KINDS = {
    "a": Objects,
    "b": Objects,
    "c5": Objects,
    "d": Objects,
    "start": Objects,
    "start-service-load": Objects,
    "file": File,
    "f-postgres": Table,
    "f-mariadb": Table,
}

# Jobs that Ottla has and this peer can't have.
UNAVAILABLE = {
    "c-clean": "Kafka Connect's transforms have nothing that empties placeholders, reads 10k as 10000 or joins fields",
    "e": "no sink for Delta tables is published where Maven finds it; Confluent's is for its own platform",
    "e-kinesis": "no source for Kinesis and no sink for Delta tables is published where Maven finds it",
}
