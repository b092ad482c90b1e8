"""The S3 store: a bucket for each run, and what lies in it as files.

Where the server is versitygw, objects are plain files below a folder, and only making a bucket needs a request.
"""

import contextlib
import datetime
import hashlib
import hmac
import http.client
import itertools
import pathlib
import shutil
import urllib.parse
import xml.etree.ElementTree as ElementTree

REGION = "us-east-1"


class Store:
    def __init__(self, url, key, secret, folder=None):
        self.url, self.key, self.secret = url, key, secret
        self.address = url.removeprefix("http://")
        self.folder = pathlib.Path(folder) if folder else None
        self.numbers = itertools.count(1)

    def describe(self):
        if self.folder is None:
            return "MinIO"
        return f"versitygw, its files in {'memory' if self.folder.is_relative_to('/dev/shm') else 'a folder on disk'}"

    @contextlib.contextmanager
    def bucket(self):
        """A new bucket, which is gone with all its objects afterwards."""
        name = f"bench-{next(self.numbers)}"
        self.request("PUT", f"/{name}")
        try:
            yield Bucket(self, name)
        finally:
            if self.folder:
                shutil.rmtree(self.folder / name, ignore_errors=True)
            else:
                for key in Bucket(self, name).keys():
                    self.request("DELETE", f"/{name}/{key}")
                self.request("DELETE", f"/{name}")

    def request(self, method, path, query=None, missing_is_fine=False):
        """One signed request (AWS Signature Version 4) without a body; the answer's body, or None where nothing is."""
        now = datetime.datetime.now(datetime.timezone.utc)
        day, moment = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
        path = urllib.parse.quote(path)
        parameters = urllib.parse.urlencode(sorted((query or {}).items()), quote_via=urllib.parse.quote, safe="")
        empty = hashlib.sha256(b"").hexdigest()
        headers = {"host": self.address, "x-amz-content-sha256": empty, "x-amz-date": moment}
        names = ";".join(sorted(headers))
        canonical = "\n".join(
            [method, path, parameters, *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names, empty]
        )
        scope = f"{day}/{REGION}/s3/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self.secret}".encode()
        for part in (day, REGION, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request(method, path + (f"?{parameters}" if parameters else ""), headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status == 404 and missing_is_fine:
            return None
        if answer.status >= 300:
            raise RuntimeError(f"the store answers {answer.status} to {method} {path}: {body[:500]!r}")
        return body


class Bucket:
    def __init__(self, store, name):
        self.store, self.name = store, name

    def has(self, key):
        """Whether an object is there."""
        if self.store.folder:
            return (self.store.folder / self.name / key).exists()
        return self.store.request("HEAD", f"/{self.name}/{key}", missing_is_fine=True) is not None

    @contextlib.contextmanager
    def files(self, scratch, prefix=""):
        """A folder that holds the objects as files."""
        if self.store.folder:
            yield self.store.folder / self.name / prefix
            return
        folder = pathlib.Path(scratch) / self.name
        try:
            for key in self.keys(prefix):
                path = folder / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.store.request("GET", f"/{self.name}/{key}"))
            folder.mkdir(exist_ok=True)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keys(self, prefix=""):
        """The names of all objects."""
        names, more = [], {}
        while True:
            body = self.store.request("GET", f"/{self.name}", {"list-type": "2", "prefix": prefix, **more})
            page = ElementTree.fromstring(body)
            of = page.tag.removesuffix("ListBucketResult")  # The namespace, if there is one.
            names += [entry.findtext(f"{of}Key") for entry in page.iter(f"{of}Contents")]
            token = page.findtext(f"{of}NextContinuationToken")
            if not token:
                return names
            more = {"continuation-token": token}
