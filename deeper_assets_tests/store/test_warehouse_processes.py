"""Several real processes and one file: killed ones, crowds, and the lock.

The crowd is at it for 15 seconds, or for a minute with DEEPER_TEST_FULL=1.
"""

import multiprocessing
import os
import random
import signal
import threading
import time
from multiprocessing.connection import Connection

import psutil
import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.store import workers
from deeper_assets_tests.store.samples import stamp
from deeper_assets_tests.store.workers import PARTITION, users_of

pytestmark = pytest.mark.slow

SPAWN = multiprocessing.get_context("spawn")
FULL = os.environ.get("DEEPER_TEST_FULL") == "1"


def start(target, *arguments) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    """A process whose target gets the arguments and one end of a pipe, and the other end."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def test_a_process_killed_at_any_moment_leaves_the_old_partition_or_the_new(warehouse, capsys) -> None:
    chance = random.Random(2026)
    kills, logs_left, unacknowledged, generation = 0, 0, 0, 0
    while generation < 200 or kills < 10:
        process, done = start(workers.replace_forever, warehouse.path, generation)
        done.recv()  # it has started
        time.sleep(chance.uniform(0.5, 2.5))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
        told = generation + 1
        try:
            while True:
                told = done.recv()
        except EOFError:
            pass
        logs_left += warehouse.path.with_name("warehouse.duckdb.wal").exists()

        reading = warehouse.read("round_errors", provenance=True)  # read-only, whatever was left behind
        [error] = reading.frame["error"].unique()
        assert error in (told, told + 1)
        unacknowledged += error == told + 1
        generation = int(error)
        assert len(reading.frame) == users_of(generation)
        [version] = reading.versions
        assert version.ingredients.settings == {"generation": generation}
        assert version.row_count == len(reading.frame)
        assert reading.frame["fingerprint"].unique().tolist() == [version.fingerprint]
        history = [one.ingredients.settings["generation"] for one in warehouse.history()]
        assert history == list(range(1, generation + 1))
    workers.replace(warehouse, PARTITION, generation + 1)
    assert warehouse.load("round_errors")["error"].unique().tolist() == [generation + 1]
    with capsys.disabled():
        print(
            f"\n{generation} replacements, {kills} kills: {logs_left} left a write-ahead log,"
            f" {unacknowledged} came after the commit and before its report"
        )


@pytest.mark.parametrize("committed", [False, True])
def test_a_write_ahead_log_left_by_a_kill_is_read_without_writing(warehouse, committed: bool) -> None:
    workers.replace(warehouse, PARTITION, 1)
    process = SPAWN.Process(target=workers.die_in_the_middle, args=(warehouse.path, 2, committed))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    log = warehouse.path.with_name("warehouse.duckdb.wal")
    assert log.exists() == committed
    kept = 2 if committed else 1
    before = warehouse.path.read_bytes()
    for _ in range(2):
        frame = warehouse.load("round_errors")
        assert frame["error"].unique().tolist() == [kept]
        assert len(frame) == users_of(kept)
    assert warehouse.path.read_bytes() == before
    assert log.exists() == committed
    workers.replace(warehouse, {"domain": "other", "method": "m"}, 3)
    assert warehouse.load("round_errors")["error"].value_counts().to_dict() == {
        kept: users_of(kept),
        3: users_of(3),
    }


def test_eight_processes_write_and_read_and_lose_nothing(warehouse, capsys) -> None:
    crowd, seconds = 8, 60 if FULL else 15
    started = [
        start(workers.write_and_read, warehouse.path, number, crowd, seconds) for number in range(crowd)
    ]
    told = [pipe.recv() for _, pipe in started]
    for process, _ in started:
        process.join()
    assert [one["failure"] for one in told if "failure" in one] == []
    assert [process.exitcode for process, _ in started] == [0] * crowd

    writes = [one["writes"] for one in told]
    history = warehouse.history("round_errors")
    assert [version.version for version in history] == list(range(1, sum(writes) + 1))
    for number, count in enumerate(writes):
        own = [version for version in history if version.partition["domain"] == f"d{number}"]
        assert [version.ingredients.settings["generation"] for version in own] == list(range(1, count + 1))
    rows = warehouse.load("round_errors").groupby(["domain", "method"])["error"]
    expected = {
        (f"d{number}", method): generation
        for number, one in enumerate(told)
        for method, generation in one["last"].items()
    }
    assert rows.min().to_dict() == rows.max().to_dict() == expected
    assert rows.size().to_dict() == {key: users_of(generation) for key, generation in expected.items()}
    with capsys.disabled():
        print(
            f"\n{crowd} processes, {seconds} s: {sum(writes)} replacements ({min(writes)} to {max(writes)} a"
            f" process), {sum(one['reads'] for one in told)} reads, longest replacement"
            f" {max(one['longest'] for one in told):.1f} s"
        )


HOLDERS = [workers.hold, workers.hold_with_duckdb_alone]


@pytest.mark.parametrize("hold", HOLDERS)
@pytest.mark.parametrize("writing", [True, False])
def test_a_lock_of_another_process_is_waited_for(warehouse, writing: bool, hold) -> None:
    workers.replace(warehouse, PARTITION, 1)
    process, holder = start(hold, warehouse.path, writing)
    holder.recv()
    waiting = threading.Thread(target=workers.replace, args=(warehouse, PARTITION, 2), daemon=True)
    waiting.start()
    waiting.join(1)
    assert waiting.is_alive()
    holder.send("let go")
    waiting.join()
    process.join()
    assert warehouse.load("round_errors")["error"].unique().tolist() == [2]


@pytest.mark.parametrize("hold", HOLDERS)
@pytest.mark.parametrize("writing", [True, False])
def test_after_the_limit_the_error_names_the_holder_and_the_setting(warehouse, writing: bool, hold) -> None:
    workers.replace(warehouse, PARTITION, 1)
    process, holder = start(hold, warehouse.path, writing)
    pid = holder.recv()
    hasty = Warehouse(warehouse.path, lock_timeout=0.2)
    command = " ".join(psutil.Process(pid).cmdline())[:200]
    with pytest.raises(DeeperError) as refused:
        workers.replace(hasty, PARTITION, 2)
    message = str(refused.value)
    assert message.startswith(
        f"{warehouse.path} is held by process {pid} ({command}) and was not released within"
    )
    assert message.endswith(
        " 0.2 s; wait for it or end it, or raise lock_timeout (DEEPER_LOCK_TIMEOUT, seconds)"
    )
    if writing:
        with pytest.raises(DeeperError, match=f"held by process {pid}"):
            hasty.load("round_errors")
    else:
        assert hasty.load("round_errors")["error"].unique().tolist() == [1]
    holder.send("let go")
    process.join()
    assert warehouse.load("round_errors")["error"].unique().tolist() == [1]


def test_a_full_disk_is_said_and_the_partition_stays(warehouse) -> None:
    workers.replace(warehouse, PARTITION, 1)
    process, told = start(workers.fill_the_disk, warehouse.path)
    message = told.recv()
    process.join()
    assert message.startswith(f"DeeperError: cannot write to {warehouse.path}: ")
    assert message.endswith(
        "make room on the disk or in memory and run again (what was stored stays as it was)"
    )
    assert warehouse.load("round_errors")["error"].unique().tolist() == [1]
    assert [version.ingredients for version in warehouse.history()] == [stamp(generation=1).ingredients]
    workers.replace(warehouse, PARTITION, 3)
    assert warehouse.load("round_errors")["error"].unique().tolist() == [3]
