"""Prints tables as Spark sees them, one line each; canonical.py says how.

A location is a Delta table, or JSON files: `json:FOLDER/*.json`. One Spark answers for all of them, because it takes seconds to
start. OTTLA_TEST_SPARK_JARS is the folder with the jars of tests/services/spark/pom.xml.
"""

import json
import os
import sys
import tempfile

# Before Java starts: rows leave Spark in the time zone of this process.
os.environ["TZ"] = "UTC"

import canonical
from pyspark.sql import SparkSession


def spark():
    options = canonical.s3_options()
    settings = {
        "spark.driver.extraClassPath": os.path.join(os.environ["OTTLA_TEST_SPARK_JARS"], "*"),
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": tempfile.gettempdir(),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.hadoop.fs.s3a.endpoint": options.get("AWS_ENDPOINT_URL", ""),
        "spark.hadoop.fs.s3a.endpoint.region": options["AWS_REGION"],
        "spark.hadoop.fs.s3a.access.key": options.get("AWS_ACCESS_KEY_ID", ""),
        "spark.hadoop.fs.s3a.secret.key": options.get("AWS_SECRET_ACCESS_KEY", ""),
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": str("AWS_ALLOW_HTTP" not in options).lower(),
    }
    builder = SparkSession.builder.master("local[2]").appName("ottla-tests")
    for name, setting in settings.items():
        builder = builder.config(name, setting)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def delta(session, table, version):
    reader = session.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return reader.load(table)


def newest(session, table):
    return session.sql(f"DESCRIBE HISTORY delta.`{table}` LIMIT 1").collect()[0]["version"]


session = spark()
for location, table, version in canonical.asked():
    # Hadoop knows S3 by another name.
    path = table.replace("s3://", "s3a://")
    if path.startswith("json:"):
        frame, seen = session.read.json(path.removeprefix("json:")), None
    else:
        frame, seen = delta(session, path, version), newest(session, path) if version is None else version
    columns = {field["name"]: field["type"] for field in json.loads(frame.schema.json())["fields"]}
    canonical.show(location, seen, columns, [row.asDict(recursive=True) for row in frame.collect()])
    sys.stdout.flush()
session.stop()
