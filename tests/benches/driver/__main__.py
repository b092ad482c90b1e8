"""The driver of tests/benches/run: makes the data, runs the jobs, counts what arrived, and writes the table."""

import json
import os
import signal
import sys

import rounds
from bench import Bench
from cases import plan
from data import Data
from machine import Machine
from options import options_of
from plot import plot
from store import Store
from table import table


def main():
    options = options_of(sys.argv[1:])
    if options.check_options:
        return 0
    machine = Machine(int(os.environ["OTTLA_BENCH_ROOT"]))
    store = Store(
        url=os.environ["OTTLA_TEST_S3"],
        key=os.environ["OTTLA_TEST_S3_KEY"],
        secret=os.environ["OTTLA_TEST_S3_SECRET"],
        folder=os.environ.get("OTTLA_BENCH_OBJECTS"),
    )
    bench = Bench(options, machine, store, Data(options))
    results = rounds.run(bench, plan(bench))
    if options.smoke:
        # A handful of records in a debug build: there is nothing in the figures.
        wrong = len(results.wrong)
        print(f"{len(results.runs)} runs in {results.seconds:.0f} s, {wrong} of them wrong", file=sys.stderr)
    else:
        save(options.out, table(bench, results), results)
    return 1 if results.wrong else 0


def save(folder, text, results):
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(text)
    (folder / "plot.svg").write_text(plot(results))
    (folder / "results.json").write_text(json.dumps(results.as_json(), indent=1) + "\n")
    print(f"written: {folder}/table.md, plot.svg, results.json", file=sys.stderr)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that what is measured ends, too.
    sys.exit(main())
