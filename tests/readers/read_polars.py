"""Prints Delta tables as polars sees them, one line each; canonical.py says how. The files are read by polars' own reader."""

import canonical
import deltalake
import polars

for location, table, version in canonical.asked():
    options = canonical.s3_options()
    frame = polars.scan_delta(table, version=version, storage_options=options).collect()
    seen = deltalake.DeltaTable(table, version=version, storage_options=options).version()
    columns = {name: str(of) for name, of in frame.schema.items()}
    canonical.show(location, seen, columns, frame.rows(named=True))
canonical.end()
