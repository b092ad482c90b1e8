"""The options of tests/benches/run."""

import argparse
import dataclasses
import pathlib

JOBS = {
    "a": "Kafka to S3, 3.2 million records of 70 bytes",
    "b": "Kafka to S3, 320,000 records of 736 bytes",
    "c": "as b, with five transformations and with the whole cleaning chain",
    "d": "an object for each of 5,000 records",
    "e": "Kafka and Kinesis to Delta, 1 million records of 140 bytes",
    "f": "1 million rows of PostgreSQL and MariaDB to Kafka",
    "g": "the floors alone: librdkafka that only drains, or joins lines",
    "s": "from the start to the first record, and memory while there is nothing to do",
}

EXAMPLES = """examples:
  tests/benches/run                                    everything, three rounds, with the peers: about 25 minutes
  tests/benches/run --jobs a --rounds 1 --peers none   Kafka to S3 alone, beside the floor: a minute
  tests/benches/run --jobs a --quick                   a fifth of the records, one round
  tests/benches/run --ottla /tmp/ottla --jobs a,c      another binary than the one that would be built
  tests/benches/run --smoke                            a few records of everything, counted, not measured
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """What was asked for."""

    jobs: list
    rounds: int
    peers: str
    records: int
    repeats: int
    smoke: bool
    quick: bool
    seed: int
    out: pathlib.Path
    ottla: str
    check_options: bool


def options_of(arguments):
    parser = argparse.ArgumentParser(
        prog="tests/benches/run",
        description="How fast Ottla is, beside floors and peers, on this machine. The table goes to target/benches.",
        epilog="jobs:\n" + "".join(f"  {job}  {what}\n" for job, what in JOBS.items()) + "\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jobs", help="which of the jobs below, as in a,d; all without it", metavar="LIST")
    parser.add_argument("--rounds", type=int, help="each case so often, in turn; the median counts (3)", metavar="N")
    parser.add_argument(
        "--peers",
        choices=["none", "kc", "spark", "all"],
        help="beside nobody, Kafka Connect, Spark (job e, and not among all), or all that can be had (all)",
    )
    parser.add_argument(
        "--records", type=int, help="small records of job a (3200000); the other jobs follow in proportion", metavar="N"
    )
    parser.add_argument("--quick", action="store_true", help="one round, a fifth of the records, no peers")
    parser.add_argument("--smoke", action="store_true", help="a few records, the debug binary, no peers, only counting")
    parser.add_argument("--repeats", type=int, help="how often a disturbed run is repeated (2)", metavar="N")
    parser.add_argument("--seed", type=int, default=1, help="of the data (1)", metavar="N")
    out = pathlib.Path("target/benches")
    parser.add_argument("--out", type=pathlib.Path, default=out, help=f"where the table goes ({out})", metavar="DIR")
    parser.add_argument("--ottla", help="the binary to measure, instead of building one", metavar="FILE")
    parser.add_argument("--no-build", action="store_true", help="take the programs as they were built last")
    parser.add_argument("--check-options", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)

    jobs = list(JOBS) if given.jobs is None else [job for job in given.jobs.split(",") if job]
    for job in jobs:
        if job not in JOBS:
            parser.error(f"there is no job '{job}'; there are {', '.join(JOBS)}")
    if given.ottla and not pathlib.Path(given.ottla).is_file():
        parser.error(f"--ottla: there is no file {given.ottla}")

    hasty = given.smoke or given.quick
    records = given.records or (4_800 if given.smoke else 640_000 if given.quick else 3_200_000)
    if records % 1600:
        parser.error("--records must be a multiple of 1600, so that all 16 partitions of all topics end together")
    return Options(
        jobs=jobs,
        rounds=given.rounds or (1 if hasty else 3),
        peers=given.peers or ("none" if hasty else "all"),
        records=records,
        repeats=given.repeats if given.repeats is not None else (0 if hasty else 2),
        smoke=given.smoke,
        quick=given.quick,
        seed=given.seed,
        out=given.out,
        ottla=given.ottla,
        check_options=given.check_options,
    )
