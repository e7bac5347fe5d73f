"""Data that does not fit is refused with the column's name, and the stored partition stays."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deeper_assets.method.exceptions import DeeperError
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.store.samples import samples, stamp, write_parquet

A = {"batch": "a"}
ZONED = pd.to_datetime(["2024-01-01 01:00", "2024-07-01 02:00", None]).tz_localize("Europe/Berlin")


def stored(warehouse: Warehouse, column: str, values: object) -> list[object]:
    """What comes back of a column of three values."""
    warehouse.replace("samples", A, samples(**{column: values}), stamp())
    return [None if pd.isna(value) else value for value in warehouse.load("samples")[column]]


@pytest.mark.parametrize(
    ("column", "values", "loaded"),
    [
        ("label", ["", None, "é\0'\";--"], ["", None, "é\0'\";--"]),
        ("label", [np.nan, pd.NA, None], [None, None, None]),
        ("label", pd.array(["x", None, "y"], dtype="string"), ["x", None, "y"]),
        ("label", pd.Categorical(["x", None, "x"]), ["x", None, "x"]),
        (
            "label",
            [1.5, None, None],
            "column 'label' must be VARCHAR, not DOUBLE (1 rows do not, e.g. '1.5')",
        ),
        ("label", [1, 2, 3], "column 'label' must be VARCHAR, not BIGINT"),
        ("label", ["x", 1, None], "column 'label' holds mixed-integer values, e.g. 'x'"),
        (
            "label",
            [b"x" * 99, None, None],
            "column 'label' holds bytes values, e.g. b'xxxxxxxxxxxxxxxxxxxx' (99 bytes)",
        ),
        ("label", [["x"], None, None], "column 'label' holds mixed values"),
        ("label", ["\ud800", "x", "y"], "column 'label' cannot be stored: 'utf-8' codec"),
        ("count", [1, 2, 3], [1, 2, 3]),
        ("count", [1.0, np.nan, 3.0], [1, None, 3]),
        ("count", [None, 2, 3], [None, 2, 3]),
        ("count", pd.array([1, None, 3], dtype="Int8"), [1, None, 3]),
        ("count", np.array([1, 2, 3], dtype="uint8"), [1, 2, 3]),
        ("count", [None, None, None], [None, None, None]),
        ("count", [1.0, 2.5, 3.0], "column 'count' must be whole (1 rows do not, e.g. '2.5')"),
        ("count", [1, 2**31, 3], "column 'count' must fit INTEGER (1 rows do not, e.g. '2147483648')"),
        ("count", [1, float("inf"), 3], "column 'count' must fit INTEGER (1 rows do not, e.g. 'inf')"),
        ("count", [True, False, True], "column 'count' must be INTEGER, not BOOLEAN (3 rows"),
        ("count", [True, None, None], "column 'count' must be INTEGER, not BOOLEAN (1 rows"),
        ("count", ["1", "2", "3"], "column 'count' must be INTEGER, not VARCHAR (3 rows do not, e.g. '1')"),
        ("big", np.array([2**53 + 1, None, -(2**63)], dtype=object), [2**53 + 1, None, -(2**63)]),
        ("big", [2**63, 0, 0], "column 'big' must fit BIGINT (1 rows do not, e.g. '9223372036854775808')"),
        ("big", [2**80, 0, 0], "column 'big' cannot be stored"),
        ("score", [1, 2, 3], [1.0, 2.0, 3.0]),
        ("score", [0.1, None, 1e-300], [0.1, None, 1e-300]),
        ("score", [1, 2.5, None], [1.0, 2.5, None]),
        ("score", [Decimal("0.5"), None, Decimal(2)], [0.5, None, 2.0]),
        ("score", np.array([0.5, np.nan, 2], dtype="float32"), [0.5, None, 2.0]),
        ("score", pd.array([0.5, None, 2], dtype="Float64"), [0.5, None, 2.0]),
        ("score", [0.5, np.inf, 2.0], "column 'score' must be finite (1 rows do not, e.g. 'inf')"),
        ("score", [0.5, -np.inf, 2.0], "column 'score' must be finite (1 rows do not, e.g. '-inf')"),
        ("score", ["0.5", "1", "2"], "column 'score' must be DOUBLE, not VARCHAR"),
        ("score", [0.5, "1", None], "column 'score' holds mixed values, e.g. 0.5"),
        ("score", [True, False, True], "column 'score' must be DOUBLE, not BOOLEAN"),
        ("seen_at", ZONED, [pd.Timestamp(2024, 1, 1), pd.Timestamp(2024, 7, 1), None]),
        ("seen_at", list(ZONED), [pd.Timestamp(2024, 1, 1), pd.Timestamp(2024, 7, 1), None]),
        (
            "seen_at",
            np.array(["1500-01-01", "NaT", "2024-01-01"], dtype="datetime64[us]"),
            [pd.Timestamp(1500, 1, 1).as_unit("us"), None, pd.Timestamp(2024, 1, 1)],
        ),
        (
            "seen_at",
            [datetime(1500, 1, 1), None, datetime(2024, 1, 1, tzinfo=UTC)],
            [pd.Timestamp(1500, 1, 1).as_unit("us"), None, pd.Timestamp(2024, 1, 1)],
        ),
        ("seen_at", ["2024-01-01", None, None], "column 'seen_at' must be TIMESTAMP, not VARCHAR"),
        ("seen_at", [1704067200, 0, 0], "column 'seen_at' must be TIMESTAMP, not BIGINT"),
        ("seen_at", [datetime(2024, 1, 1).date(), None, None], "column 'seen_at' holds date values"),
        ("data", [b"", None, b"\x00'\\x41\xff"], [b"", None, b"\x00'\\x41\xff"]),
        ("data", [None, None, None], [None, None, None]),
        ("data", ["x", None, "y"], "column 'data' must be BLOB, not VARCHAR (2 rows do not, e.g. 'x')"),
        ("data", [b"x", "y", None], "column 'data' holds mixed values, e.g. b'x' (1 bytes)"),
        ("data", [1, 2, 3], "column 'data' must be BLOB, not BIGINT"),
        ("place", [0, 1, None], "column 'place' must not be NULL (1 rows do not)"),
        ("place", [None, None, None], "column 'place' must not be NULL (3 rows do not)"),
        ("place", [0, 1, -2], "column 'place' must satisfy place >= 0 (1 rows do not, e.g. '-2')"),
        ("place", [0, 1, 1], "several rows have the key batch 'a', place 1"),
        ("batch", ["a", "b", "c"], "column 'batch' must be 'a' (2 rows do not, e.g. 'b')"),
        ("batch", ["a", None, "a"], "column 'batch' must not be NULL (1 rows do not)"),
    ],
)
def test_each_type_is_stored_exactly_or_refused_by_name(
    warehouse: Warehouse, column: str, values: object, loaded: object
) -> None:
    if not isinstance(loaded, str):
        assert stored(warehouse, column, values) == loaded
        return
    warehouse.replace("samples", A, samples(score=9.0), stamp("before"))
    with pytest.raises(DeeperError) as refused:
        stored(warehouse, column, values)
    assert str(refused.value).startswith(f"table 'samples' refuses the data: {loaded}")
    assert warehouse.load("samples", provenance=True)["run_id"].tolist() == ["before"] * 3
    assert [version.run_id for version in warehouse.history()] == ["before"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda frame: frame.drop(columns="score"), "column 'score' is missing"),
        (lambda frame: frame.assign(extra=1), "column 'extra' is not declared"),
        (lambda frame: frame.assign(run_id="mine"), "column 'run_id' is not declared"),
        (
            lambda frame: frame.rename(columns={"score": 0}),
            "column 'score' is missing; column 0 is not declared",
        ),
        (lambda frame: pd.concat([frame, frame["big"]], axis=1), "column 'big' comes twice"),
        (lambda frame: frame.assign(score="x", label=1), "'label' must be VARCHAR, not BIGINT"),
        (lambda frame: frame.assign(score="x", label=1), "'score' must be DOUBLE, not VARCHAR"),
    ],
)
def test_other_columns_are_refused_and_every_fault_is_named(warehouse, change, fault) -> None:
    warehouse.replace("samples", A, samples(score=9.0), stamp("before"))
    with pytest.raises(DeeperError) as refused:
        warehouse.replace("samples", A, change(samples()), stamp("after"))
    assert fault in str(refused.value)
    assert "(declared: batch VARCHAR, place INTEGER, label VARCHAR" in str(refused.value)
    assert warehouse.load("samples")["score"].tolist() == [9.0] * 3


def test_a_frame_of_nulls_before_text_is_not_guessed_from_its_start(warehouse) -> None:
    rows = 5000
    labels = [None] * (rows - 1) + ["the only one"]
    warehouse.replace("samples", A, samples(rows=rows, label=labels), stamp())
    assert warehouse.load("samples")["label"].tolist() == labels


def test_the_index_of_a_frame_means_nothing(warehouse) -> None:
    frame = samples()
    frame.index = [7, 7, 7]
    warehouse.replace("samples", A, frame, stamp())
    assert warehouse.load("samples")["place"].tolist() == [0, 1, 2]


SELECT = (
    "SELECT 'a' AS batch, 0 AS place, NULL AS label, 1 AS count, 2 AS big, {score} AS score,"
    " '\\x00\\xFF'::BLOB AS data, {at}"
)


def test_a_parquet_file_is_stored_by_name_whatever_its_path(warehouse, tmp_path: Path) -> None:
    folder = tmp_path / "batch=b [1]*?"
    folder.mkdir()
    at = "TIMESTAMPTZ '2024-01-01 01:00:00+01:00' AS seen_at"
    path = write_parquet(folder / "rows.parquet", SELECT.format(score="0.25::DECIMAL(9, 2)", at=at))
    version = warehouse.replace("samples", A, path, stamp())
    assert version.row_count == 1
    [row] = warehouse.load("samples").to_dict("records")
    assert row == {
        "batch": "a",
        "place": 0,
        "label": None,
        "count": 1,
        "big": 2,
        "score": 0.25,
        "data": b"\x00\xff",
        "seen_at": pd.Timestamp(2024, 1, 1),
    }
    assert path.exists()


@pytest.mark.parametrize(
    ("score", "at", "fault"),
    [
        ("'x'", "NULL AS seen_at", "column 'score' must be DOUBLE, not VARCHAR (1 rows do not, e.g. 'x')"),
        ("'inf'::DOUBLE", "NULL AS seen_at", "column 'score' must be finite"),
        (
            "[1.5]",
            "NULL AS seen_at",
            "column 'score' must be DOUBLE, not DECIMAL(2,1)[] (1 rows do not, e.g. '[1.5]')",
        ),
        ("1", "DATE '2024-01-01' AS seen_at", "column 'seen_at' must be TIMESTAMP, not DATE"),
        ("'x'::BLOB", "NULL AS seen_at", "'score' must be DOUBLE, not BLOB (1 rows do not, e.g. '1 bytes')"),
        ("1", "NULL AS seen_at, 1 AS extra", "column 'extra' is not declared"),
    ],
)
def test_a_parquet_file_is_checked_like_a_frame(warehouse, tmp_path: Path, score, at, fault) -> None:
    path = write_parquet(tmp_path / "rows.parquet", SELECT.format(score=score, at=at))
    with pytest.raises(DeeperError) as refused:
        warehouse.replace("samples", A, path, stamp())
    assert fault in str(refused.value)
    assert warehouse.load("samples").empty


def test_nan_in_a_parquet_file_is_null(warehouse, tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "rows.parquet", SELECT.format(score="'nan'::DOUBLE", at="NULL AS seen_at")
    )
    frame = samples(rows=1, label=None, count=1, big=2, score=None, data=b"\x00\xff", seen_at=None)
    assert (
        warehouse.replace("samples", A, path, stamp()).content
        == warehouse.replace("samples", A, frame, stamp()).content
    )


def test_no_parquet_file_at_all(warehouse, tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("not Parquet")
    with pytest.raises(
        DeeperError, match=r"table 'samples' refuses the data: there is no file .*gone\.parquet"
    ):
        warehouse.replace("samples", A, tmp_path / "gone.parquet", stamp())
    with pytest.raises(DeeperError, match=r"text\.parquet cannot be read as Parquet"):
        warehouse.replace("samples", A, tmp_path / "text.parquet", stamp())
