"""One standalone worker of Kafka Connect: a Java process, its log, and its REST interface."""

import ctypes
import json
import pathlib
import random
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from . import installed

# As Kafka's own start scripts have it: kafka-run-class.sh for the collector, connect-standalone.sh for the heap.
JAVA = """java -Xms256M -Xmx2G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35
    -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true""".split()
LOG_SETTINGS = pathlib.Path(__file__).with_name("log4j2.properties")

# A line of the log: milliseconds since 1970, level, message.
LINE = re.compile(r"^(\d{13}) ([A-Z]+) (.*)$")


class Failed(Exception):
    """The worker or its connector ended, or did not come to its end in time."""


class Worker:
    """Runs from `with` to its end.

    `folder` is for its files alone. `plugin` is the only one it finds beside those of the distribution. `connector`, if
    given, is named on its command line, and so is started with it; others can be posted later.
    """

    def __init__(self, folder, bootstrap, plugin, discovery, connector=None):
        self.folder = folder
        self.port = free_port()
        self.log = folder / "worker.log"
        self.read_to = 0
        settings = {
            "bootstrap.servers": bootstrap,
            "listeners": f"http://127.0.0.1:{self.port}",
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
            "offset.storage.file.filename": folder / "offsets",
            "plugin.path": installed.plugin_path(plugin),
            "plugin.discovery": discovery,
        }
        (folder / "worker.properties").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.command = [
            *JAVA,
            f"-Dlog4j2.configurationFile={LOG_SETTINGS}",
            "-cp",
            f"{installed.libraries()}/*",
            "org.apache.kafka.connect.cli.ConnectStandalone",
            folder / "worker.properties",
        ]
        if connector:
            (folder / "connector.json").write_text(json.dumps(connector))
            self.command.append(folder / "connector.json")

    def __enter__(self):
        with self.log.open("wb") as log:
            self.started = time.time()
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                preexec_fn=end_with_parent,
            )
        self.pid = self.process.pid
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def await_rest(self, timeout=90):
        """Waits until the worker answers. Returns how long it has taken since the start of the process, in seconds."""
        deadline = time.time() + timeout
        while True:
            try:
                self.ask("GET", "/connectors")
                return time.time() - self.started
            except OSError:
                self.check_alive()
                if time.time() > deadline:
                    raise Failed(f"Kafka Connect did not answer within {timeout} s:\n{self.end_of_log()}") from None
                time.sleep(0.02)

    def post(self, connector):
        self.ask("POST", "/connectors", connector)

    def delete(self, name):
        """Returns when its tasks have ended."""
        self.ask("DELETE", f"/connectors/{name}")
        while name in self.ask("GET", "/connectors"):
            time.sleep(0.05)

    def check(self, name):
        """Fails if the connector or one of its tasks has failed."""
        self.check_alive()
        try:
            status = self.ask("GET", f"/connectors/{name}/status")
        except urllib.error.HTTPError as error:
            if error.code == 404:  # Nothing is known of it in its first moments.
                return
            raise
        except OSError:  # Nobody answers while the worker is still starting.
            return
        for part in [status["connector"], *status["tasks"]]:
            if part["state"] == "FAILED":
                raise Failed(f"{name} failed: {part.get('trace', '')[:2000]}")

    def check_alive(self):
        if self.process.poll() is not None:
            raise Failed(f"Kafka Connect ended with {self.process.returncode}:\n{self.end_of_log()}")

    def new_lines(self):
        """The lines of the log since the last call: (seconds since 1970, message)."""
        with self.log.open("rb") as log:
            log.seek(self.read_to)
            text = log.read()
        whole = text.rfind(b"\n") + 1
        self.read_to += whole
        for line in text[:whole].decode(errors="replace").splitlines():
            if parts := LINE.match(line):
                yield int(parts[1]) / 1000, parts[3]

    def end_of_log(self):
        return self.log.read_text(errors="replace")[-3000:]

    def ask(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise
            said = error.read().decode(errors="replace")
            raise Failed(
                f"{method} {path}: {error.code} {said[:2000]}\nthe worker's log:\n{self.end_of_log()}"
            ) from None
        return json.loads(text) if text else None


def end_with_parent():
    """A measurement that is ended from outside leaves no worker behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


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
