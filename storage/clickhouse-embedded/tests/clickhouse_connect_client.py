"""Uses an embedded ClickHouse through clickhouse-connect; any failure ends it with a traceback."""

import datetime
import sys

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError


def fails(call, text):
    try:
        call()
    except DatabaseError as error:
        assert text in str(error), error
    else:
        raise AssertionError(f"no error with {text}")


def use(client):
    assert client.ping()
    assert client.command("SELECT 1 + 1") == 2
    client.command("DROP TABLE IF EXISTS t")
    client.command(
        "CREATE TABLE t (id UInt64, name LowCardinality(String), at DateTime64(3, 'UTC'), "
        "maybe Nullable(Float64), tags Array(String), extra Map(String, String)) ENGINE = MergeTree ORDER BY id"
    )
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.timezone.utc)
    rows = [[n, f"name {n % 10}", at, None if n % 2 else n / 2, ["a", str(n)], {"k": str(n)}] for n in range(20_000)]
    columns = ["id", "name", "at", "maybe", "tags", "extra"]
    summary = client.insert("t", rows, column_names=columns)
    assert summary.written_rows == len(rows), summary.written_rows
    result = client.query("SELECT * FROM t ORDER BY id")
    assert list(result.column_names) == columns
    assert len(result.result_rows) == len(rows)
    # The client gives times of UTC without a zone.
    expected = [row[:2] + [at.replace(tzinfo=None)] + row[3:] for row in rows]
    got = [list(row) for row in result.result_rows]
    different = [pair for pair in zip(got, expected) if pair[0] != pair[1]]
    assert not different, different[:3]

    assert client.query("SELECT * FROM t WHERE id > 1000000").result_rows == []
    bound = client.query("SELECT count() FROM t WHERE name = {name:String}", parameters={"name": "name 3"})
    assert bound.result_rows == [(2000,)], bound.result_rows
    client_side = client.query("SELECT id FROM t WHERE id IN %(ids)s ORDER BY id", parameters={"ids": (3, 1)})
    assert client_side.result_rows == [(1,), (3,)]
    assert client.query("SELECT getSetting('max_block_size')", settings={"max_block_size": 777}).first_row == (777,)

    with client.query_row_block_stream("SELECT number FROM numbers(500000)") as stream:
        assert sum(len(block) for block in stream) == 500_000
    assert client.raw_query("SELECT 1 AS a FORMAT JSONEachRow") == b'{"a":1}\n'
    client.raw_insert("t", column_names=["id", "name"], insert_block="7,raw\n8,raw\n", fmt="CSV")
    assert client.command("SELECT count() FROM t WHERE name = 'raw'") == 2

    fails(lambda: client.query("SELECT * FROM nothing"), "UNKNOWN_TABLE")
    fails(lambda: client.command("SELEC 1"), "SYNTAX_ERROR")
    fails(
        lambda: client.query(
            "SELECT number, throwIf(number = 900000) FROM numbers(1000000)", settings={"max_block_size": 1000}
        ),
        "",
    )
    assert client.command("SELECT 1") == 1


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    for compress in (True, False, "gzip", "zstd", "lz4"):
        client = clickhouse_connect.get_client(host=host, port=port, compress=compress)
        use(client)
        client.close()


if __name__ == "__main__":
    main()
