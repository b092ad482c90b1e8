"""What every job needs: where the programs and services are, and the words for what is run and what came out."""

import dataclasses
import itertools
import os
import pathlib
import shutil

# The title of the one case of job a that has no objects.
ONE_FILE = "into one file, 1 task"


@dataclasses.dataclass(frozen=True)
class Case:
    """Work that several contenders do, each in its way: a line of the table for each of them."""

    job: str
    title: str
    data: str  # A name of data.SHAPES.
    flush: int = 0  # Records of an object.
    tasks: int = 1
    transforms: str = ""  # "five", "chain" or none.


@dataclasses.dataclass
class Run:
    """What one contender reached in one case, once."""

    case: Case
    who: str
    records: int
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mib: float = 0.0
    others: float = 0.0  # Cores that were busy with something else.
    start_s: float = 0.0
    idle_mib: float = 0.0
    round: int = 0
    wrong: str = ""  # What was not as it must be at the destination.
    remark: str = ""  # What was not as expected there, though every record is there once.
    unavailable: str = ""  # Why a peer could not be had.

    @property
    def per_second(self):
        return self.records / self.wall_s if self.wall_s else 0.0

    @property
    def per_cpu_second(self):
        return self.records / self.cpu_s if self.cpu_s else 0.0


class Bench:
    """The surroundings of all runs."""

    def __init__(self, options, machine, store, data):
        self.options, self.machine, self.store, self.data = options, machine, store, data
        self.ottla = pathlib.Path(os.environ["OTTLA_BENCH_OTTLA"]).resolve()
        self.programs = pathlib.Path(os.environ["OTTLA_BENCH_PROGRAMS"]).resolve()
        self.work = pathlib.Path(os.environ["OTTLA_BENCH_WORK"])
        self.kafka = os.environ["OTTLA_TEST_KAFKA"]
        self.examples = pathlib.Path(__file__).resolve().parents[3] / "examples"
        self.numbers = itertools.count(1)

    def fresh(self, name):
        """A name nobody has used, for a connector (and so its group), and an empty folder for what it writes."""
        name = f"{name}-{next(self.numbers)}"
        folder = self.work / name
        folder.mkdir()
        return name, Folder(folder)

    def judged(self, wrong, folder):
        """What was wrong, with what the program had to say about it: its log outlives its folder."""
        if not wrong:
            return ""
        self.options.out.mkdir(parents=True, exist_ok=True)
        kept = self.options.out / f"{folder.name}.log"
        shutil.copy(folder / "log", kept)
        return f"{wrong}; its log: {kept}"


class Folder:
    """A folder that is gone when the run is over."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)
