"""Asks DuckDB what `cargo bench -p warehouse` asks the warehouse, over the attempts that it exported.

Started by `run`, with the CSV, a directory and perhaps a number of threads.

Reads the CSV into a DuckDB table (which it keeps in DIRECTORY) and a Parquet file, and times the sums of
a bill by group: exchanges, completed, tokens and cost by class, estimated cost, waste by cause.
"""

import os
import sys
import time

import duckdb

csv, directory = sys.argv[1], sys.argv[2]
threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
database = os.path.join(directory, "attempts.duckdb")
parquet = os.path.join(directory, "attempts.parquet")
if os.path.exists(database):
    os.remove(database)
db = duckdb.connect(database)
db.execute(f"SET threads = {threads}")

begun = time.monotonic()
db.execute(f"""
    CREATE TABLE attempts AS
    SELECT *, (admitted_ns // 86400000000000)::INT AS day FROM read_csv('{csv}', header = true,
        types = {{'waste': 'VARCHAR'}})
""")
db.execute("CHECKPOINT")
print(f"loading DuckDB's table: {time.monotonic() - begun:.1f} s, {os.path.getsize(database) >> 20} MB")
begun = time.monotonic()
db.execute(f"COPY attempts TO '{parquet}' (FORMAT parquet, COMPRESSION zstd)")
print(f"writing Parquet: {time.monotonic() - begun:.1f} s, {os.path.getsize(parquet) >> 20} MB")

MEASURES = """
    count(*), sum(completed), sum(input), sum(cache_read), sum(output), sum(cost_input),
    sum(cost_cache_read), sum(cost_output), sum(cost), sum(estimated), sum(cost * estimated),
    sum((input + cache_read) * useful), sum(output * useful),
    sum(CASE WHEN waste = 'aborted' THEN cost ELSE 0 END),
    sum(CASE WHEN waste = 'truncated' THEN cost ELSE 0 END),
    min(admitted_ns), max(admitted_ns)
"""
DAY = 86_400 * 10**9
START = db.execute("SELECT min(admitted_ns) FROM attempts").fetchone()[0] // DAY * DAY
WEEK = f"WHERE admitted_ns >= {START + 10 * DAY} AND admitted_ns < {START + 17 * DAY}"

for source, name in (("attempts", "DuckDB table"), (f"'{parquet}'", "DuckDB on Parquet")):
    for by, where, what in (
        ("route, model", "", "30 days"),
        ("day", "", "30 days"),
        ("release", "", "30 days"),
        ("", "", "30 days"),
        ("user", "", "30 days"),
        ("route, model", WEEK, "7 days"),
        ("day", WEEK, "7 days"),
        ("release", WEEK, "7 days"),
    ):
        shown = by.replace("release", "tag:release")
        by = by.replace("user", '"user"')
        keys, group = (f"{by}, ", f"GROUP BY {by}") if by else ("", "")
        took = []
        for _ in range(5):
            begun = time.monotonic()
            rows = db.execute(f"SELECT {keys}{MEASURES} FROM {source} {where} {group}").fetchall()
            took.append(time.monotonic() - begun)
        took.sort()
        at = len(by.split(",")) if by else 0
        exchanges = sum(row[at] for row in rows)
        cost = sum(row[at + 8] for row in rows)
        spend = f"{cost // 10**12}.{cost % 10**12:012}".rstrip("0").rstrip(".")
        print(
            f"{name}, by [{shown}] over {what}: median {took[2] * 1000:.0f} ms, worst "
            f"{took[4] * 1000:.0f} ms: {len(rows)} groups, {exchanges} exchanges, ${spend}"
        )
