"""The topics that the jobs read, each made when the first job asks for it."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

PARTITIONS = 16


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a topic holds."""

    topic: str
    shape: str  # As bench-fill knows it.
    share: float  # Records, as a part of the small ones.
    field: str  # The integer field that tells records apart.


# The cleaning chain asks for a topic that ends in .pin.
SHAPES = {
    "small": Shape("small", "small", 1, "id"),
    "pin": Shape("posts.pin", "pin", 1 / 10, "index"),
    "few": Shape("few.pin", "pin", 1 / 640, "index"),
    "row": Shape("row", "row", 1 / 3.2, "id"),
    "one": Shape("one", "small", 0, "id"),
}


class Data:
    def __init__(self, options):
        self.options, self.mean_bytes = options, {}
        self.kafka = os.environ["OTTLA_TEST_KAFKA"]
        self.programs = pathlib.Path(os.environ["OTTLA_BENCH_PROGRAMS"])

    def records(self, name):
        if name == "one":
            return 1
        records = round(self.options.records * SHAPES[name].share)
        return max(PARTITIONS, records // PARTITIONS * PARTITIONS) if self.options.smoke else records

    def topic(self, name):
        """The topic's name. It is filled if it was not yet."""
        # Other runs may have used the same broker.
        topic = f"bench{os.getpid()}.{SHAPES[name].topic}"
        if name not in self.mean_bytes:
            records = self.records(name)
            print(f"making {records:,} records of {name}", file=sys.stderr, flush=True)
            self.mean_bytes[name] = self.fill(topic, SHAPES[name].shape, records)["mean_bytes"]
        return topic

    def lines(self, name):
        """A file with the values of a topic that has been made, a line each."""
        topic = self.topic(name)
        file = pathlib.Path(os.environ["OTTLA_BENCH_WORK"]) / f"{topic}.jsonl"
        if not file.exists():
            self.fill(topic, SHAPES[name].shape, self.records(name), "--lines", file)
        return file

    def fill(self, topic, shape, records, *more):
        command = [self.programs / "bench-fill", "--bootstrap", self.kafka, "--topic", topic, "--shape", shape]
        command += ["--records", records, "--partitions", PARTITIONS, "--seed", self.options.seed, *more]
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"the topic {topic} could not be made")
        return json.loads(done.stdout)

    def divides(self, name, flush):
        """Whether every record ends up in a whole object."""
        return flush == 1 or self.records(name) % (PARTITIONS * flush) == 0
