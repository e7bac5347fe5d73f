"""Replacing, loading, tracing, and what happens to a partition when something goes wrong."""

import os
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.store.columns import Column, Table
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.read_only import beside_read_only
from deeper_assets_tests.store.samples import SAMPLES, errors, samples, stamp, write_parquet

A, B = {"batch": "a"}, {"batch": "b"}
ODD = "o'brien; DROP TABLE samples --"


def test_a_partition_is_replaced_and_the_others_stay(warehouse) -> None:
    warehouse.replace("samples", A, samples("a"), stamp())
    warehouse.replace("samples", B, samples("b", rows=2), stamp())
    warehouse.replace("samples", A, samples("a", rows=1, label="new"), stamp())
    frame = warehouse.load("samples")
    assert frame[["batch", "place", "label"]].values.tolist() == [
        ["a", 0, "new"],
        ["b", 0, "label 0"],
        ["b", 1, "label 1"],
    ]
    assert [version.row_count for version in warehouse.history()] == [3, 2, 1]


def test_columns_in_another_order_are_stored_under_their_names(warehouse) -> None:
    warehouse.replace("samples", A, samples()[::-1][list(reversed(SAMPLES.column_names))], stamp())
    pd.testing.assert_frame_equal(
        warehouse.load("samples")[["place", "label", "score"]], samples()[["place", "label", "score"]]
    )


def test_types_and_order_of_a_loaded_frame(warehouse) -> None:
    expected = {
        "batch": "object",
        "place": "int64",
        "label": "object",
        "count": "Int64",
        "big": "Int64",
        "score": "float64",
        "data": "object",
        "seen_at": "datetime64[us]",
    }
    assert warehouse.load("samples").dtypes.astype(str).to_dict() == expected
    given = samples(rows=4).sample(frac=1, random_state=1)
    warehouse.replace("samples", A, given, stamp())
    frame = warehouse.load("samples")
    assert frame.dtypes.astype(str).to_dict() == expected
    assert frame["place"].tolist() == [0, 1, 2, 3]
    assert frame["big"].tolist() == [2**53 + 1, 2**53 + 2, 2**53 + 3, 2**53 + 4]


def test_an_empty_frame_empties_the_partition_and_is_in_the_ledger(warehouse) -> None:
    warehouse.replace("samples", A, samples("a"), stamp())
    warehouse.replace("samples", B, samples("b"), stamp())
    version = warehouse.replace("samples", A, pd.DataFrame(columns=SAMPLES.column_names), stamp("emptying"))
    assert (version.row_count, version.run_id) == (0, "emptying")
    assert set(warehouse.load("samples")["batch"]) == {"b"}
    assert [v.partition for v in warehouse.current()] == [B, A]


def test_an_unpartitioned_table_is_replaced_whole(warehouse) -> None:
    def table(mae: float) -> pd.DataFrame:
        return pd.DataFrame({"domain": ["book"], "method": "m", "round": 0, "users": 3, "mae": mae})

    warehouse.replace("floors_table", {}, table(0.5), stamp())
    warehouse.replace("floors_table", {}, table(0.25), stamp())
    assert warehouse.load("floors_table")["mae"].tolist() == [0.25]
    assert [version.partition for version in warehouse.history("floors_table")] == [{}, {}]


def test_a_key_is_only_a_key(warehouse) -> None:
    odd = {"domain": ODD, "method": "x' OR '1'='1"}
    plain = {"domain": "book", "method": "m"}
    warehouse.replace("samples", {"batch": ODD}, samples(ODD), stamp())
    warehouse.replace("round_errors", plain, errors(plain, 1, users=2), stamp())
    warehouse.replace("round_errors", odd, errors(odd, 2, users=3), stamp())
    warehouse.replace("round_errors", odd, errors(odd, 3, users=4), stamp())
    assert warehouse.load("samples", {"batch": [ODD]})["place"].tolist() == [0, 1, 2]
    assert warehouse.load("round_errors", {"domain": [ODD]})["error"].tolist() == [3.0] * 4
    assert warehouse.load("round_errors", {"method": [odd["method"]]})["error"].tolist() == [3.0] * 4
    assert warehouse.load("round_errors", {"domain": ["book"]})["error"].tolist() == [1.0] * 2
    assert [v.partition for v in warehouse.current("round_errors")] == [plain, odd]


def test_which_partitions_and_columns_are_loaded(warehouse) -> None:
    for domain in "abc":
        for method in "xy":
            partition = {"domain": domain, "method": method}
            warehouse.replace("round_errors", partition, errors(partition, 1, users=1), stamp("r"))

    def loaded(**partitions: list[str]) -> list[str]:
        frame = warehouse.load("round_errors", partitions)
        return (frame["domain"] + frame["method"]).tolist()

    assert loaded() == ["ax", "ay", "bx", "by", "cx", "cy"]
    assert loaded(domain=["c", "a"], method=["y"]) == ["ay", "cy"]
    assert loaded(method=["x"]) == ["ax", "bx", "cx"]
    assert loaded(domain=[]) == []
    assert loaded(domain=["never made"]) == []
    some = [{"domain": "a", "method": "y"}, {"domain": "c", "method": "x"}]
    reading = warehouse.read("round_errors", some, columns=["error", "domain"], provenance=True)
    assert list(reading.frame) == ["error", "domain", "run_id", "fingerprint"]
    assert reading.frame["domain"].tolist() == ["a", "c"]
    assert [version.partition for version in reading.versions] == some
    assert set(reading.frame["fingerprint"]) == {version.fingerprint for version in reading.versions}
    with pytest.raises(
        DeeperError, match=r"table 'round_errors' has no column 'eror'; it has domain, method,"
    ):
        warehouse.load("round_errors", columns=["eror"])
    with pytest.raises(DeeperError, match="not partitioned by user_id; it is by domain, method"):
        warehouse.load("round_errors", {"user_id": ["u"]})
    with pytest.raises(TypeError, match=r"partitions\['domain'\] is a list of values, not one string"):
        warehouse.load("round_errors", {"domain": "abc"})


def test_unknown_tables_and_partitions(warehouse) -> None:
    with pytest.raises(DeeperError, match=r"table 'sample' is not declared; known: raw_ratings, .*samples"):
        warehouse.replace("sample", A, samples(), stamp())
    with pytest.raises(DeeperError, match=r'partitioned by domain, method; got \{"domain":"book"\}'):
        warehouse.replace("round_errors", {"domain": "book"}, samples(), stamp())
    with pytest.raises(DeeperError, match=r"table 'samples' is partitioned by batch; got \{\}"):
        warehouse.replace("samples", {}, samples(), stamp())


def test_a_warehouse_that_does_not_exist_reads_as_an_empty_one(warehouse) -> None:
    assert list(warehouse.load("samples", provenance=True)) == [
        *SAMPLES.column_names,
        "run_id",
        "fingerprint",
    ]
    assert len(warehouse.load("samples", {"batch": ["a"]})) == 0
    assert warehouse.current() == warehouse.history() == []
    assert not warehouse.path.parent.exists()


def test_content_knows_neither_order_nor_run_but_every_value(warehouse) -> None:
    def content(frame: pd.DataFrame, by: str = "run") -> str:
        return warehouse.replace("samples", A, frame, stamp(by)).content

    base = content(samples())
    assert base == content(samples().iloc[::-1], "another run")
    assert base == content(samples(score=pd.array([0, 0.5, 1], dtype="Float64")))
    others = [
        samples(rows=2),
        samples(rows=0),
        samples(label=["label 0", "label 1", ""]),
        samples(label=["label 0", "label 1", None]),
        samples(label=["label 0", "label 1", "N"]),
        samples(count=[0, 10, 21]),
        samples(count=[0, 10, None]),
        samples(score=[0, 0.5, 1 + 2**-52]),
        samples(data=[b"\0\0\xff", b"\1\0\xff", b"\2\0\xfe"]),
        samples(data=[b"\0\0\xff", b"\1\0\xff", None]),
        samples(data=[b"\0\0\xff", b"\1\0\xff", b""]),
        samples(seen_at=samples()["seen_at"] + timedelta(microseconds=1)),
        samples().assign(label=samples()["label"].iloc[::-1].tolist()),
    ]
    assert len({base, *map(content, others)}) == 14


MOMENTS = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31))
ROWS = st.lists(
    st.tuples(
        st.none() | st.text(),
        st.none() | st.integers(-(2**31), 2**31 - 1),
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(allow_infinity=False),
        st.none() | st.binary(),
        st.none() | MOMENTS,
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, key=st.text(), names=st.permutations(SAMPLES.column_names), by_parquet=st.booleans())
def test_what_is_loaded_is_what_was_stored(warehouse, tmp_path, rows, key, names, by_parquet) -> None:
    columns = list(zip(*rows, strict=True)) or [()] * 6
    frame = pd.DataFrame(
        {
            "batch": np.array([key] * len(rows), dtype=object),
            "place": np.arange(len(rows)),
            "label": np.array(columns[0], dtype=object),
            "count": pd.array(columns[1], dtype="Int64"),
            "big": pd.array(columns[2], dtype="Int64"),
            "score": np.array(columns[3], dtype="float64"),
            "data": pd.Series(columns[4], dtype=object),
            "seen_at": np.array(columns[5], dtype="datetime64[us]"),
        }
    )
    given = frame[list(names)].iloc[::-1]
    version = warehouse.replace("samples", {"batch": key}, given, stamp())
    loaded = warehouse.load("samples", {"batch": [key]})
    pd.testing.assert_frame_equal(loaded, frame, check_exact=True)
    if by_parquet:
        with duckdb.connect() as connection:
            connection.register("loaded", loaded)
            connection.execute("COPY loaded TO ?", [str(tmp_path / "rows.parquet")])
        again = warehouse.replace("samples", {"batch": key}, tmp_path / "rows.parquet", stamp())
        assert again.content == version.content
        pd.testing.assert_frame_equal(warehouse.load("samples", {"batch": [key]}), frame, check_exact=True)


# ------------------------------------------------------------------------------------------- what goes wrong


def test_any_exception_rolls_back(warehouse) -> None:
    warehouse.replace("samples", A, samples(), stamp())
    with pytest.raises(KeyboardInterrupt), warehouse.transaction() as connection:
        connection.execute("DELETE FROM samples")
        raise KeyboardInterrupt
    assert len(warehouse.load("samples")) == 3


def test_the_declared_rules_stand_in_the_file_itself(warehouse) -> None:
    warehouse.replace("samples", A, samples(), stamp())
    with duckdb.connect(warehouse.path) as connection:
        with pytest.raises(duckdb.ConstraintException, match="CHECK constraint failed"):
            connection.execute("UPDATE samples SET place = -1")
        with pytest.raises(duckdb.ConstraintException, match=r"NOT NULL constraint failed: samples\.batch"):
            connection.execute("UPDATE samples SET batch = NULL")
        with pytest.raises(duckdb.ConstraintException, match=r"NOT NULL constraint failed: samples\.run_id"):
            connection.execute("UPDATE samples SET run_id = NULL")


def test_duckdb_accepts_every_declared_table(warehouse) -> None:
    empty = {name: warehouse.load(name) for name in TABLES}
    for name, table in TABLES.items():
        version = warehouse.replace(name, dict.fromkeys(table.partition, "x"), empty[name], stamp())
        assert version.row_count == 0
        assert list(warehouse.load(name)) == list(table.column_names)


def test_a_table_of_another_version_of_the_project_is_refused(warehouse, monkeypatch) -> None:
    warehouse.replace("samples", A, samples(), stamp())
    columns = (*SAMPLES.columns[:-1], Column("kept", "new here", "DOUBLE"))
    monkeypatch.setitem(TABLES, "samples", Table("samples", columns, SAMPLES.key, SAMPLES.partition))
    fault = (
        r"table 'samples' of .*warehouse\.duckdb was made by another version of this project: it has seen_at"
        r" TIMESTAMP where this version declares kept DOUBLE NOT NULL; set DEEPER_HOME to a new folder"
    )
    with pytest.raises(DeeperError, match=fault):
        warehouse.load("samples")
    with pytest.raises(DeeperError, match=fault):
        warehouse.replace("samples", A, samples(), stamp())
    monkeypatch.setitem(TABLES, "samples", SAMPLES)
    assert len(warehouse.load("samples")) == 3


def test_another_check_is_another_version_too(warehouse, monkeypatch) -> None:
    warehouse.replace("samples", A, samples(), stamp())
    place = Column("place", "1-based", "INTEGER", check="place >= 1")
    columns = (SAMPLES.columns[0], place, *SAMPLES.columns[2:])
    monkeypatch.setitem(TABLES, "samples", Table("samples", columns, SAMPLES.key, SAMPLES.partition))
    with pytest.raises(DeeperError, match=r"CHECK\(\(place >= 0\)\) where .* CHECK\(\(place >= 1\)\)"):
        warehouse.load("samples")


def test_a_file_that_is_no_warehouse_is_refused_at_once(warehouse) -> None:
    warehouse.path.parent.mkdir()
    warehouse.path.write_text("something else")
    patient = Warehouse(warehouse.path, lock_timeout=3600)
    for attempt in (
        lambda: patient.load("samples"),
        lambda: patient.replace("samples", A, samples(), stamp()),
    ):
        with pytest.raises(DeeperError, match=r"the warehouse .*warehouse\.duckdb is damaged .*not a valid"):
            attempt()
    assert warehouse.path.read_text() == "something else"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(DeeperError, match=r"cannot open the warehouse .*home/warehouse\.duckdb: "):
        Warehouse(tmp_path / "home" / "warehouse.duckdb").replace("samples", A, samples(), stamp())


def test_a_file_that_a_killed_process_was_making_is_no_hindrance(warehouse) -> None:
    warehouse.path.parent.mkdir()
    warehouse.path.with_name(".warehouse.duckdb.new").write_text("half")
    warehouse.replace("samples", A, samples(), stamp())
    assert len(warehouse.load("samples")) == 3
    assert sorted(path.name for path in warehouse.path.parent.iterdir()) == [
        "warehouse.duckdb",
        "warehouse.duckdb.lock",
        "warehouse.duckdb.queue",
    ]


# ------------------------------------------------------------------------------------- threads of one process


def test_no_connection_outlives_a_call(warehouse, tmp_path) -> None:
    warehouse.replace("samples", A, samples(), stamp())
    warehouse.load("samples")
    warehouse.current()
    parquet = write_parquet(tmp_path / "rows.parquet", "SELECT * FROM (VALUES (1)) AS rows(batch)")
    refused = []  # kept, as their tracebacks keep the frames that had the connection
    for data in (samples(place=-1), parquet):
        with pytest.raises(DeeperError) as error:
            warehouse.replace("samples", A, data, stamp())
        refused.append(error)
    with pytest.raises(DeeperError) as error:
        warehouse.load("samples", columns=["none"])
    refused.append(error)
    open_files = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert str(warehouse.path) not in open_files
    duckdb.connect(warehouse.path).close()  # nothing else has it in another way


def test_readers_within_readers_and_beside_them(warehouse) -> None:
    warehouse.replace("samples", A, samples("a"), stamp())
    counts = []

    def read() -> None:
        with warehouse.connect(writing=False) as outer, warehouse.connect(writing=False) as inner:
            counts.extend(one.execute("SELECT count(*) FROM samples").fetchone() for one in (outer, inner))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [(3,)] * 12


def test_a_reader_that_fails_leaves_nothing_to_the_next(warehouse, tmp_path) -> None:
    other = Warehouse(tmp_path / "o'ther.duckdb")
    for one, rows in ((warehouse, 1), (other, 2)):
        one.replace("samples", A, samples("a", rows=rows), stamp())
    for _ in range(3):
        with pytest.raises(duckdb.CatalogException), warehouse.connect(writing=False) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM nothing")
        assert (len(warehouse.load("samples")), len(other.load("samples"))) == (1, 2)
    with warehouse.connect(writing=False) as connection, pytest.raises(duckdb.InvalidInputException):
        connection.execute("DELETE FROM samples")


def test_a_writer_waits_for_a_reader_of_the_same_process(warehouse) -> None:
    warehouse.replace("samples", A, samples(), stamp())
    writer = threading.Thread(
        target=warehouse.replace, args=("samples", A, samples(rows=1), stamp("waited")), daemon=True
    )
    with warehouse.connect(writing=False) as connection:
        writer.start()
        writer.join(0.5)
        assert writer.is_alive()
        assert connection.execute("SELECT count(*) FROM samples").fetchall() == [(3,)]
    writer.join(60)
    assert [version.run_id for version in warehouse.history()] == ["run", "waited"]


def test_a_lock_held_by_this_process_is_named_when_the_limit_is_reached(warehouse) -> None:
    warehouse.replace("samples", A, samples(), stamp())
    hasty = Warehouse(warehouse.path, lock_timeout=0.1)
    held = (
        rf"held by another connection of this process \(PID {os.getpid()}\) and was not released within 0.1 s"
    )
    with warehouse.connect(writing=True), pytest.raises(DeeperError, match=held):
        hasty.load("samples")
    with warehouse.connect(writing=False), pytest.raises(DeeperError, match=held):
        hasty.replace("samples", A, samples(), stamp())
    with warehouse.connect(writing=False):
        assert len(hasty.load("samples")) == 3


def test_a_lock_held_by_another_thread_is_named_when_the_limit_is_reached(warehouse) -> None:
    warehouse.replace("samples", A, samples(), stamp())
    hasty, failures = Warehouse(warehouse.path, lock_timeout=0.1), []

    def load() -> None:
        try:
            hasty.load("samples")
        except DeeperError as failure:
            failures.append(str(failure))

    with warehouse.connect(writing=True):
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
    assert failures == [
        f"{warehouse.path} is held by another connection of this process (PID {os.getpid()}) and was not"
        " released within 0.1 s; wait for it or end it, or raise lock_timeout (DEEPER_LOCK_TIMEOUT, seconds)"
    ]


def test_threads_that_write_take_turns(warehouse) -> None:
    failures: list[BaseException] = []

    def write(batch: str) -> None:
        try:
            for rows in (1, 2, 3):
                warehouse.replace("samples", {"batch": batch}, samples(batch, rows=rows), stamp())
                assert len(warehouse.load("samples", {"batch": [batch]})) == rows
        except BaseException as failure:  # noqa: BLE001
            failures.append(failure)

    threads = [threading.Thread(target=write, args=(f"thread {number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [version.version for version in warehouse.history()] == list(range(1, 19))
    assert warehouse.load("samples").groupby("batch").size().tolist() == [3] * 6


@pytest.mark.parametrize("damage", ["cut", "flipped header", "flipped rows", "emptied"])
def test_a_damaged_file_is_named_with_what_is_lost_and_how_it_is_made_again(warehouse, damage) -> None:
    rows = samples(rows=50_000).assign(label=[f"{place:x}" * 9 for place in range(50_000)])
    warehouse.replace("samples", A, rows, stamp())
    content = bytearray(warehouse.path.read_bytes())
    if damage == "flipped header":
        content[4096 + 8] ^= 255
    elif damage == "flipped rows":
        content[12288 + 2000] ^= 255  # in the first block
    warehouse.path.write_bytes({"cut": content[: len(content) // 2], "emptied": b""}.get(damage, content))
    with pytest.raises(DeeperError) as raised:
        warehouse.load("samples")
    assert str(raised.value).startswith(f"the warehouse {warehouse.path} is damaged (")
    assert f"`deeper run --home {warehouse.path.parent}` makes them again" in str(raised.value)


def test_a_reader_that_may_not_write_reads_and_waits_its_turn(warehouse) -> None:
    warehouse.replace("samples", A, samples(), stamp())
    read = "from pathlib import Path; from deeper_assets.store.warehouse import Warehouse; import sys;"
    read += "print(Warehouse(Path(sys.argv[1]), 0.2).history()[0].row_count)"
    command = beside_read_only(warehouse.path.parent, [sys.executable, "-c", read, str(warehouse.path)])

    def reading() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert reading().stdout == "3\n"
    with warehouse.connect(writing=True):
        held = reading()
    assert f"is held by process {os.getpid()}" in held.stderr
    for lock in warehouse.path.parent.glob("*.*.*"):  # the locks of a copy do not come with it
        lock.unlink()
    assert reading().stdout == "3\n"
