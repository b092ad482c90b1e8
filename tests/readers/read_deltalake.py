"""Prints Delta tables as Python's deltalake sees them, one line each; canonical.py says how."""

import json

import canonical
import deltalake

for location, table, version in canonical.asked():
    delta = deltalake.DeltaTable(table, version=version, storage_options=canonical.s3_options())
    columns = {field["name"]: field["type"] for field in json.loads(delta.schema().to_json())["fields"]}
    canonical.show(location, delta.version(), columns, delta.to_pyarrow_table().to_pylist())
canonical.end()
