"""Prints Delta tables as DuckDB sees them, one line each; canonical.py says how.

The log is read by deltalake, because DuckDB's own extension for it is not in its package. Files of a folder without partition
columns are read by DuckDB's own Parquet reader; others come through pyarrow.
"""

import canonical
import deltalake
import duckdb

for location, table, version in canonical.asked():
    delta = deltalake.DeltaTable(table, version=version, storage_options=canonical.s3_options())
    session = duckdb.connect()
    session.execute("SET TimeZone = 'UTC'")
    if delta.metadata().partition_columns or "://" in table or not delta.file_uris():
        source = delta.to_pyarrow_dataset()
        relation = session.sql("SELECT * FROM source")
    else:
        files = [file.removeprefix("file://") for file in delta.file_uris()]
        # Files that are older than a column don't have it.
        relation = session.read_parquet(files, union_by_name=True, hive_partitioning=False)
    columns = {name: str(of) for name, of in zip(relation.columns, relation.types)}
    canonical.show(location, delta.version(), columns, relation.to_arrow_table().to_pylist())
canonical.end()
