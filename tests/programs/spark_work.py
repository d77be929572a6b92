"""A Spark job: sums with a shuffle; prints the total and the addresses of the executors' machines."""
import sys

from pyspark.sql import SparkSession

settings = {"spark.driver.memory": "512m", "spark.executor.memory": "512m", "spark.ui.enabled": "false"}
session = SparkSession.builder.master(sys.argv[1]).config(map=settings).getOrCreate()
context = session.sparkContext
wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 3  # two executors, and the driver
status = context._jsc.sc().getExecutorMemoryStatus
sums = context.parallelize(range(200000), 4).map(lambda x: (x % 7, x)).reduceByKey(lambda a, b: a + b).collect()
hosts = {place.split(":")[0] for place in status().keys().mkString(",").split(",")}
print(sum(total for _, total in sums), *sorted(host for host in hosts if host[0].isdigit()))
