"""Where Kafka Connect and its plugins lie, and how they come there."""

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

PEERS = pathlib.Path(__file__).resolve().parent.parent
SERVICES = PEERS.parent.parent / "services"
CACHE = pathlib.Path(
    os.environ.get("OTTLA_CACHE")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ottla"
)
HERE = CACHE / "benches/kafka-connect"

# Each is a folder with a pom.xml beside this one: Maven brings it, and builds what there is to build.
SOURCES = {"s3-sink": PEERS / "s3-sink", "debezium": PEERS / "debezium"}


class NotInstalled(Exception):
    """Something is missing that `install` brings."""


def libraries():
    """The jars of the Kafka distribution, which hold the worker, its converters and its transforms."""
    found = sorted(
        path for path in (CACHE / "services").glob("kafka-*/libs") if any(path.glob("connect-runtime-*.jar"))
    )
    if not found:
        raise NotInstalled("no Kafka: run tests/services/install, or `kafka-connect install`, which does that too")
    return found[-1]


def version():
    """Of Kafka Connect: `4.3.1`."""
    jar, *_ = libraries().glob("connect-runtime-*.jar")
    return jar.stem.removeprefix("connect-runtime-")


def plugin_path(name):
    """What `plugin.path` must be for a worker to find this plugin, and no other one."""
    if not is_fresh(name):
        raise NotInstalled(f"the plugin {name} is not there, or not of this version: run `kafka-connect install`")
    return HERE / name


def install():
    """Brings what is missing. Takes no time once all is there, and needs no network then."""
    try:
        libraries()
    except NotInstalled:
        run(SERVICES / "install")
    HERE.mkdir(parents=True, exist_ok=True)
    with (HERE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Two at once would build the same things twice.
        for name in SOURCES:
            if not is_fresh(name):
                build(name)


def build(name):
    source, work = SOURCES[name], HERE / f"{name}.build"
    if (source / "src").exists() and not shutil.which("javac"):
        sys.exit(f"{name} is compiled here, and there is no javac: apt-get install default-jdk-headless")
    print(f"peers: building {name} (Maven)", file=sys.stderr, flush=True)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work)
    jars = work / "plugin" / name
    maven = ["mvn", "-q", "-B", "-f", work / "pom.xml"]
    run(*maven, "package", "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={jars}")
    for jar in (work / "target").glob("*.jar"):
        shutil.move(jar, jars)
    (work / "plugin/source.sha256").write_text(digest(source))
    shutil.rmtree(HERE / name, ignore_errors=True)
    (work / "plugin").rename(HERE / name)
    shutil.rmtree(work)


def is_fresh(name):
    stamp = HERE / name / "source.sha256"
    return stamp.exists() and stamp.read_text() == digest(SOURCES[name])


def digest(folder):
    """Of all files of a folder and their names."""
    sum = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        sum.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
        sum.update(path.read_bytes())
    return sum.hexdigest()


def run(*command):
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-3000:]}")
