"""A large log of events: `python -m deeper_assets_tests.benchmarks.event_logs FORMAT --folder FOLDER`.

Reads and cuts a generated log of 50,000 users in one process, and prints its seconds and highest memory.
DuckDB may take 1 GB. The generated file stays in the folder.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import duckdb

from deeper_assets.method.domains import FIVE_STARS, Domain
from deeper_assets.method.induction.cutting import EVENTS, REJECTED, Accounts, SessionRules, cut_log
from deeper_assets.method.windows import UserSampling
from deeper_assets.sources.events import EventColumns, EventLog
from deeper_assets.sources.shape import Workshop, write

SHOP = Domain("shop", "product", FIVE_STARS, seen=False)
COLUMNS = EventColumns("visitor", "query", time="at", kind="action")
FORMATS = {"csv": "(FORMAT csv, HEADER)", "jsonl": "(FORMAT json)", "parquet": "(FORMAT parquet)"}

LOG = """
SELECT 'v' || (hash(i) % 50000) AS visitor, 'the search words ' || (hash(i + 7) % 9000) AS query,
    make_timestamp(1600000000000000 + (hash(i + 3) % 30000000)::BIGINT * 1000000) AS at,
    ['view', 'click', 'search'][1 + i % 3] AS action
FROM range({rows}) numbers(i)
"""


def generated(format_: str, rows: int, folder: Path) -> Path:
    """A log of so many events, which is written where it is not there."""
    path = folder / f"events_{rows}.{format_}"
    if not path.exists():
        duckdb.sql(f"COPY ({LOG.format(rows=rows)}) TO '{path}' {FORMATS[format_]}")
    return path


def cut(path: Path, folder: Path) -> Accounts:
    """Reads and cuts a log, and writes what a run would store."""
    with Workshop(folder, "1 GB").open() as (connection, files):
        EventLog(SHOP, COLUMNS, file=path).load(connection, files)
        sampling = UserSampling(train_users=60, eval_users=40)
        accounts = cut_log(connection, SHOP, SessionRules("silence", 30, 7), sampling)
        for relation in (EVENTS, REJECTED):
            write(connection, relation, files)
    return accounts


def main() -> None:
    """Parses the command line and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("format", choices=sorted(FORMATS))
    parser.add_argument("--folder", type=Path, required=True, help="of generated files")
    parser.add_argument("--millions", type=float, default=2.0, help="of events")
    told = parser.parse_args()
    path = generated(told.format, round(told.millions * 1e6), told.folder)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        accounts = cut(path, Path(folder))
    seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{path.name}: {seconds:.1f} s, {peak:,.0f} MB at most; {accounts.parts}")


if __name__ == "__main__":
    main()
