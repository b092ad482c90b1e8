"""Spark Structured Streaming from a Kafka topic into a Delta table, as far as the topic goes now. The driver starts it."""

import os
import sys

from pyspark.sql import SparkSession, functions

bootstrap, topic, table, checkpoint, ddl, jars, memory = sys.argv[1:]
settings = {
    "spark.driver.extraClassPath": jars,
    "spark.driver.memory": memory,
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
builder = SparkSession.builder.master(f"local[{os.cpu_count()}]").appName("bench")
for name, setting in settings.items():
    builder = builder.config(name, setting)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("ERROR")

records = (
    spark.readStream.format("kafka")
    .option("kafka.bootstrap.servers", bootstrap)
    .option("subscribe", topic)
    .option("startingOffsets", "earliest")
    .load()
)
rows = records.select(functions.from_json(functions.col("value").cast("string"), ddl).alias("row")).select("row.*")
query = (
    rows.writeStream.format("delta")
    .outputMode("append")
    .option("checkpointLocation", checkpoint)
    .trigger(availableNow=True)
    .start(table)
)
query.awaitTermination()
# Only what was waited for counts as used by this process; Spark's Java would be left to end by itself.
gateway = spark.sparkContext._gateway
spark.stop()
gateway.shutdown()
gateway.proc.stdin.close()
gateway.proc.wait()
