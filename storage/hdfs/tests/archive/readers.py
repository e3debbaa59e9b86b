"""Reads an archive as somebody would who does not know Fanal, and prints what it found.

usage: readers.py duckdb FOLDER | pyspark URL | fetch WEBHDFS ROOT FOLDER

`fetch` copies the archive from HDFS over its HTTP interface, which has nothing to do
with the client under test.
"""

import glob
import json
import os
import sys
import urllib.request


def duckdb(folder):
    import duckdb
    import pyarrow.parquet as parquet

    beacons, dead = (f"read_parquet('{folder}/{kind}/v1/*/*.parquet')" for kind in ("beacons", "dead"))
    files = sorted(glob.glob(f"{folder}/beacons/v1/*/*.parquet"))
    ledgers = [json.loads(parquet.ParquetFile(file).metadata.metadata[b"fanal.ledger"]) for file in files]
    rows = duckdb.sql(
        "SELECT count(*), min(log_offset), max(epoch_ms(received_at_ms)), count(DISTINCT line), "
        f"string_agg(DISTINCT site_code, ',' ORDER BY site_code) FROM {beacons}"
    ).fetchall()[0]
    letters = duckdb.sql(f"SELECT count(*), any_value(reason) FROM {dead}").fetchall()[0]
    return (*rows, *letters, sum(row["archived"] for ledger in ledgers for row in ledger["rows"]))


def pyspark(url):
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as f

    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = session.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    session = session.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    beacons = session.read.parquet(f"{url}/beacons/v1/*/*.parquet")
    rows = beacons.agg(
        f.count("*"),
        f.min("log_offset"),
        f.unix_millis(f.max("received_at_ms")),
        f.count_distinct("line"),
        f.array_join(f.array_sort(f.collect_set("site_code")), ","),
    ).collect()[0]
    letters = session.read.parquet(f"{url}/dead/v1/*/*.parquet").agg(f.count("*"), f.first("reason")).collect()[0]
    return (*rows, *letters)


def fetch(webhdfs, root, folder):
    def ask(path, operation):
        return urllib.request.urlopen(f"http://{webhdfs}/webhdfs/v1{path}?op={operation}", timeout=30).read()

    def copy(path, target):
        os.makedirs(target, exist_ok=True)
        for status in json.loads(ask(path, "LISTSTATUS"))["FileStatuses"]["FileStatus"]:
            name = status["pathSuffix"]
            if status["type"] == "DIRECTORY":
                copy(f"{path}/{name}", f"{target}/{name}")
            else:
                with open(f"{target}/{name}", "wb") as file:
                    file.write(ask(f"{path}/{name}", "OPEN"))

    copy(root, folder)
    return ("fetched",)


print(*{"duckdb": duckdb, "pyspark": pyspark, "fetch": fetch}[sys.argv[1]](*sys.argv[2:]))
