"""What the other processes do in the tests with several: each function is one process's whole life."""

import os
import random
import resource
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import duckdb

from deeper_assets.store.adapters import as_rows, identity, restore
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.store.samples import errors, stamp

PARTITION = {"domain": "book", "method": "m"}
METHODS = ("m0", "m1", "m2")


def users_of(generation: int) -> int:
    """How many rows a generation has: another number than its neighbours."""
    return 500 + 100 * (generation % 17)


def replace(warehouse: Warehouse, partition: dict[str, str], generation: int) -> None:
    frame = errors(partition, generation, users_of(generation))
    warehouse.replace("round_errors", partition, frame, stamp(generation=generation))


def replace_forever(path: Path, last: int, done: Connection) -> None:
    """Replace one partition with generation last + 1, last + 2, …, telling each once it is stored."""
    generation = last
    while True:
        generation += 1
        replace(Warehouse(path), PARTITION, generation)
        done.send(generation)


def die_in_the_middle(path: Path, generation: int, committed: bool) -> None:
    """Replace the partition, and be killed before the transaction is committed, or before the file closes."""
    warehouse = Warehouse(path)
    kill = warehouse.connect(writing=True)
    connection = kill.__enter__()
    connection.execute("BEGIN")
    connection.execute("DELETE FROM round_errors")
    connection.execute(
        "INSERT INTO round_errors BY NAME SELECT 'book' AS domain, 'm' AS method, i::VARCHAR AS user_id,"
        " 0 AS round, 1 AS window, 10 AS items, ? AS error, 3 AS pairs, 2 AS pairs_right, 1 AS pairs_tied,"
        " 0 AS kept, 'r' AS run_id, 'f' AS fingerprint"
        " FROM range(?) AS t(i)",
        [generation, users_of(generation)],
    )
    if committed:
        connection.execute("COMMIT")
    os.kill(os.getpid(), signal.SIGKILL)


def hold(path: Path, writing: bool, told: Connection) -> None:
    """Keep the file open until told to let go."""
    with Warehouse(path).connect(writing):
        told.send(os.getpid())
        told.recv()
    told.send("let go")


def hold_with_duckdb_alone(path: Path, writing: bool, told: Connection) -> None:
    """As `hold`, as a program does that knows nothing of this project: DuckDB's shell, a notebook."""
    with duckdb.connect(path, read_only=not writing):
        told.send(os.getpid())
        told.recv()
    told.send("let go")


def write_and_read(path: Path, number: int, processes: int, seconds: float, told: Connection) -> None:
    """Replace one's own partitions in turn and read the others'; tell how often, or what went wrong."""
    warehouse, chance = Warehouse(path, lock_timeout=120), random.Random(number)
    ends, generation, reads, longest = time.monotonic() + seconds, 0, 0, 0.0
    last: dict[str, int] = {}
    try:
        while time.monotonic() < ends or generation < len(METHODS):
            generation += 1
            method = METHODS[generation % len(METHODS)]
            started = time.monotonic()
            replace(warehouse, {"domain": f"d{number}", "method": method}, generation)
            longest = max(longest, time.monotonic() - started)
            last[method] = generation
            domain = f"d{chance.randrange(processes)}"
            frame = warehouse.load("round_errors", {"domain": [domain], "method": [chance.choice(METHODS)]})
            held = frame["error"].unique().tolist()
            assert len(held) <= 1, f"generations {held} in one partition"
            assert not held or len(frame) == users_of(int(held[0])), f"{len(frame)} rows of {held}"
            reads += 1
    except BaseException as failure:
        told.send({"failure": repr(failure)})
        raise
    told.send({"writes": generation, "reads": reads, "last": last, "longest": longest})


def fill_the_disk(path: Path, told: Connection) -> None:
    """Replace the partition with more rows than may be written: files are limited to what they hold now."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, resource.RLIM_INFINITY))
    frame = errors(PARTITION, 2, 200_000)
    frame["user_id"] = [os.urandom(16).hex() for _ in range(len(frame))]
    try:
        Warehouse(path).replace("round_errors", PARTITION, frame, stamp())
    except Exception as failure:  # noqa: BLE001
        told.send(f"{type(failure).__name__}: {failure}")
        return
    told.send("stored")


def restore_and_read(model: Path, cache: Path, start: Barrier, told: "Queue[tuple[str, str]]") -> None:
    """Restore a model when everyone is ready, and tell where it is and what is in it."""
    rows = as_rows(model)
    start.wait()
    folder = restore(rows, cache)
    told.put((str(folder), identity(as_rows(folder))))
