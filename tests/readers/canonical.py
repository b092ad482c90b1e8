"""What all readers share: one way to write a table down, so that two readers that saw the same rows print the same bytes."""

import base64
import datetime
import decimal
import json
import os
import sys


def value(given):
    """A value as JSON has it. Times are UTC in ISO 8601, with a fraction only where there is one; bytes are base64."""
    if isinstance(given, datetime.datetime):
        if given.tzinfo is not None:
            given = given.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return given.isoformat() + "Z"
    if isinstance(given, datetime.date):
        return given.isoformat()
    if isinstance(given, decimal.Decimal):
        return str(given)
    if isinstance(given, (bytes, bytearray)):
        return base64.b64encode(given).decode()
    if isinstance(given, dict):
        return {name: value(inner) for name, inner in given.items()}
    if isinstance(given, (list, tuple)):
        return [value(inner) for inner in given]
    return given


def text(given):
    """Compact JSON with sorted keys. A number that JSON does not know (NaN) is an error here, not a surprise later."""
    return json.dumps(value(given), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def show(location, version, columns, rows):
    """Prints one table as one line, {"columns": .., "location": .., "version": .., "rows": [..]}, the rows sorted by their text."""
    rows = ",".join(sorted(text(row) for row in rows))
    head = {"columns": columns, "location": location, "version": version}
    sys.stdout.write(f'{text(head)[:-1]},"rows":[{rows}]}}\n')


def end():
    """Ends the process once everything is printed, without taking the interpreter down: on a busy machine the readers' own
    threads now and then abort a process that ends while they do ("terminate called without an active exception")."""
    sys.stdout.flush()
    os._exit(0)


def asked():
    """The tables on the command line: LOCATION, or LOCATION@VERSION for an older version."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(f"Usage: {os.path.basename(sys.argv[0])} LOCATION[@VERSION]...   (a folder, or s3://bucket/table)")
    for location in sys.argv[1:]:
        table, at, version = location.rpartition("@")
        if at and version.isdigit():
            yield location, table, int(version)
        else:
            yield location, location, None


def s3_options():
    """How to reach S3, from AWS's variables: what deltalake and polars call storage options."""
    options = {"AWS_REGION": os.environ.get("AWS_REGION", "us-east-1")}
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if name in os.environ:
            options[name] = os.environ[name]
    if options.get("AWS_ENDPOINT_URL", "").startswith("http:"):
        options["AWS_ALLOW_HTTP"] = "true"
    return options
