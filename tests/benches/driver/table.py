"""The table as Markdown: every case, what it reached, and the ratios that were promised."""

import datetime
import subprocess

from machine import DISTURBED
from options import JOBS
from targets import targets

HEAD = """\
| case | who | records/s | µs CPU a record (= CPU s a million) | peak MiB | runs |
|---|---|---:|---:|---:|---:|
"""


def table(bench, results):
    parts = [f"# Measurements of {datetime.date.today().isoformat()}\n\n", surroundings(bench, results)]
    for job in sorted({case.job for case, _ in results.pairs()}):
        pairs = [(case, who) for case, who in results.pairs() if case.job == job]
        parts.append(f"\n## {job}: {JOBS[job]}\n\n")
        parts.append(starts(results, pairs) if job == "s" else HEAD + "".join(line(results, *pair) for pair in pairs))
    parts.append(ratios(results))
    parts.append(remarks(results))
    return "".join(parts)


def surroundings(bench, results):
    sizes = {name: size for name, size in bench.data.mean_bytes.items() if name != "one"}
    data = ", ".join(f"{name}: {bench.data.records(name):,} of {size:.1f} bytes" for name, size in sizes.items())
    return (
        f"{bench.machine.describe()}. Ottla {version(bench)}. Objects in {bench.store.describe()}. "
        "Broker, store and what is measured share the machine. "
        f"{bench.options.rounds} rounds in {results.seconds / 60:.0f} minutes.\n"
        + (f"Records: {data}; 16 partitions, no keys, no compression.\n" if data else "")
        + "Each figure is the median of the runs, with the smallest and the largest in brackets. "
        "The processor time is that of the worker's process over its whole life.\n"
    )


def version(bench):
    if bench.options.ottla:
        return f"as in {bench.options.ottla}"
    command = ["git", "describe", "--always", "--dirty"]
    said = subprocess.run(command, cwd=bench.examples, capture_output=True, text=True)
    return f"at {said.stdout.strip()}" if said.returncode == 0 else "of an unknown version"


def line(results, case, who):
    runs, disturbed = results.of(case, who)
    if not runs:
        return f"| {case.title} | {who} | {why_not(results, case, who)} | | | 0 |\n"
    rate = spread([run.per_second for run in runs], lambda value: f"{value:,.0f}")
    cost = spread([run.cpu_s / run.records * 1e6 for run in runs], micros)
    peak = spread([run.peak_mib for run in runs], lambda value: f"{value:.0f}")
    return f"| {case.title} | {who} | {rate} | {cost} | {peak} | {len(runs)}{' *' if disturbed else ''} |\n"


def starts(results, pairs):
    text = "| who | start to first record, ms | memory at rest, MiB | runs |\n|---|---:|---:|---:|\n"
    for case, who in pairs:
        runs, disturbed = results.of(case, who)
        if not runs:
            text += f"| {who} | {why_not(results, case, who)} | | 0 |\n"
            continue
        start = spread([run.start_s * 1000 for run in runs], lambda value: f"{value:.0f}")
        rest = spread([run.idle_mib for run in runs], lambda value: f"{value:.0f}")
        text += f"| {who} | {start} | {rest} | {len(runs)}{' *' if disturbed else ''} |\n"
    return text


def why_not(results, case, who):
    reasons = [run.wrong for run in results.runs if run.case == case and run.who == who]
    return next((reason.replace("\n", " ").replace("|", "/")[:200] for reason in reasons if reason), "not run")


def micros(value):
    return f"{value:,.0f}" if value > 100 else f"{value:.2f}"


def spread(values, form):
    values = sorted(values)
    middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
    if len(values) == 1:
        return form(middle)
    return f"{form(middle)} ({form(values[0])}..{form(values[-1])})"


def ratios(results):
    promised = targets(results)
    if not promised:
        return ""
    text = "\n## What was promised\n\n| what | promised | measured | |\n|---|---:|---:|---|\n"
    for target in promised:
        text += f"| {target.what} | {target.wanted()} | {target.got()} | {target.verdict()} |\n"
    return text


def remarks(results):
    text = ""
    if any(results.of(*pair)[1] for pair in results.pairs()):
        text += (
            f"\n\\* Other programs used more than {DISTURBED} cores meanwhile, in this run and in all its "
            "repetitions: not a figure to keep.\n"
        )
    reasons = {}
    for who, job, why in results.missing():
        reasons.setdefault((who, why), []).append(job)
    if reasons:
        text += "\nNot to be had:\n\n"
        for (who, why), jobs in reasons.items():
            text += f"- {who} (jobs {', '.join(dict.fromkeys(jobs))}): {why}\n"
    remarkable = [run for run in results.runs if run.remark]
    if remarkable:
        text += "\nEvery record once, but in other objects than `flush.size` says:\n\n"
        text += "".join(f"- {place(run)}: {run.remark}\n" for run in remarkable)
    wrong = results.wrong
    if wrong:
        text += "\nWrong outcomes, which count nowhere:\n\n"
        text += "".join(f"- {place(run)}: {run.wrong[:500]}\n" for run in wrong)
    return text


def place(run):
    return f"round {run.round}, {run.case.job}, {run.case.title}, {run.who}"
