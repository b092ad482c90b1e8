"""Runs all cases round by round, the contenders of a case one after the other, and repeats what others disturbed."""

import dataclasses
import statistics
import sys
import time

from bench import Run
from machine import DISTURBED, Failed


@dataclasses.dataclass
class Results:
    """All runs, the disturbed ones too, which count only where there are no others."""

    runs: list = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def wrong(self):
        return [run for run in self.runs if run.wrong]

    def of(self, case, who):
        """The runs that count, and whether they were disturbed."""
        runs = [run for run in self.runs if run.case == case and run.who == who]
        good = [run for run in runs if not run.wrong and not run.unavailable]
        calm = [run for run in good if run.others < DISTURBED]
        return (calm, False) if calm else (good, bool(good))

    def median(self, case, who, of):
        """The median of a figure of the runs that count, or None without any."""
        values = [value for run in self.of(case, who)[0] if (value := getattr(run, of))]
        return statistics.median(values) if values else None

    def pairs(self):
        """Cases and contenders in the order in which they first ran, without peers that can't be had."""
        return list(dict.fromkeys((run.case, run.who) for run in self.runs if not run.unavailable))

    def missing(self):
        """Peers that can't be had for a job: who, job and why."""
        return list(dict.fromkeys((run.who, run.case.job, run.unavailable) for run in self.runs if run.unavailable))

    def cases(self, job):
        return list(dict.fromkeys(run.case for run in self.runs if run.case.job == job))

    def as_json(self):
        return [dataclasses.asdict(run) for run in self.runs]


def run(bench, planned):
    results, began = Results(), time.monotonic()
    missing = set()  # A peer that can't do something is asked once.
    for number in range(bench.options.rounds):
        for case, contenders in planned:
            # Whoever is second finds the machine warmer: every other round begins at the other end.
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                if (case, contender.who) in missing or (number and getattr(contender, "once", False)):
                    continue
                for run in undisturbed(bench, contender, case):
                    run.round = number + 1
                    results.runs.append(run)
                    tell(bench, run)
                    if run.unavailable:
                        missing.add((case, contender.who))
    results.seconds = time.monotonic() - began
    return results


def undisturbed(bench, contender, case):
    """The runs of a contender, once more as long as others were busy; all of them are kept."""
    kept = []
    for _ in range(1 + bench.options.repeats):
        try:
            runs = list(contender.runs(case))
        except Failed as failure:
            runs = [Run(case, contender.who, 0, wrong=str(failure))]
        kept += runs
        if all(run.others < DISTURBED or run.wrong for run in runs):
            break
    return kept


def tell(bench, run):
    said = f"round {run.round}  {run.case.job}  {run.case.title:45}  {run.who:38}"
    if run.unavailable:
        said += f"not to be had: {run.unavailable}"
    elif run.wrong:
        said += f"WRONG: {run.wrong}"
    elif run.case.job == "s":
        said += f"start {run.start_s * 1000:.0f} ms, at rest {run.idle_mib:.0f} MiB"
    else:
        said += f"{run.per_second:>11,.0f}/s {run.cpu_s / run.records * 1e6:7.2f} µs {run.peak_mib:6.0f} MiB"
        if run.others >= DISTURBED and not bench.options.smoke:
            said += f"  (disturbed: others used {run.others:.1f} cores)"
        if run.remark:
            said += f"  ({run.remark})"
    print(said, file=sys.stderr, flush=True)
