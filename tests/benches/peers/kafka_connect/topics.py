"""How many records the partitions of a topic hold: the two requests of Kafka's protocol that tell.

A client of one's own, because Python has none among its standard modules, and a Java one would take a second of the
processor time of which the benches measure fractions.
"""

import socket
import struct

METADATA, METADATA_VERSION = 3, 1
LIST_OFFSETS, LIST_OFFSETS_VERSION = 2, 1
EARLIEST, LATEST = -2, -1
UNKNOWN_TOPIC = 3


class Topics:
    """A connection to the one broker of the benches, which leads every partition."""

    def __init__(self, bootstrap):
        host, _, port = bootstrap.rpartition(":")
        self.connection = socket.create_connection((host, int(port)), timeout=30)
        self.answers = self.connection.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.answers.close()
        self.connection.close()

    def records(self, topic):
        """Records by partition. Counts offsets, so a topic of transactions or one that is compacted shows more."""
        partitions = self._partitions(topic)
        first, next = self._offsets(topic, partitions, EARLIEST), self._offsets(topic, partitions, LATEST)
        return {partition: next[partition] - first[partition] for partition in partitions}

    def _partitions(self, topic):
        answer = self._ask(METADATA, METADATA_VERSION, struct.pack(">i", 1) + text(topic))
        for _ in range(answer.int32()):  # Brokers: id, host, port, rack.
            answer.int32(), answer.text(), answer.int32(), answer.text()
        answer.int32()  # The controller's id.
        partitions = []
        for _ in range(answer.int32()):
            error, name, _internal = answer.int16(), answer.text(), answer.int8()
            if error not in (0, UNKNOWN_TOPIC):
                raise RuntimeError(f"the broker answers error {error} for the topic {name}")
            for _ in range(answer.int32()):
                answer.int16()
                partitions.append(answer.int32())
                answer.int32()  # The leader.
                for _ in range(2):  # Replicas, and those in sync.
                    for _ in range(answer.int32()):
                        answer.int32()
        return sorted(partitions)

    def _offsets(self, topic, partitions, which):
        wanted = b"".join(struct.pack(">iq", partition, which) for partition in partitions)
        request = struct.pack(">ii", -1, 1) + text(topic) + struct.pack(">i", len(partitions)) + wanted
        answer = self._ask(LIST_OFFSETS, LIST_OFFSETS_VERSION, request)
        offsets = {}
        for _ in range(answer.int32()):
            answer.text()
            for _ in range(answer.int32()):
                partition, error, _timestamp, offset = answer.int32(), answer.int16(), answer.int64(), answer.int64()
                if error:
                    raise RuntimeError(f"the broker answers error {error} for the offsets of {topic}-{partition}")
                offsets[partition] = offset
        return offsets

    def _ask(self, key, version, body):
        request = struct.pack(">hhi", key, version, 0) + text("ottla-benches") + body
        self.connection.sendall(struct.pack(">i", len(request)) + request)
        length = self.answers.read(4)
        answer = self.answers.read(struct.unpack(">i", length)[0]) if len(length) == 4 else b""
        if len(answer) < 4:
            raise ConnectionError("the broker has closed the connection")
        return Answer(answer[4:])  # After the correlation id.


class Answer:
    """Reads an answer from its beginning to its end."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def int8(self):
        return self._number(">b")

    def int16(self):
        return self._number(">h")

    def int32(self):
        return self._number(">i")

    def int64(self):
        return self._number(">q")

    def text(self):
        length = self.int16()
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def _number(self, form):
        (number,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return number


def text(value):
    data = value.encode()
    return struct.pack(">h", len(data)) + data
