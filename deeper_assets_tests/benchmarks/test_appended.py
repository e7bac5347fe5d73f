"""What the benchmark of appended rows appends, and how it counts what has changed."""

from pathlib import Path

import pandas as pd

from deeper_assets_tests.benchmarks.appended import State, append, changed_users, differences
from deeper_assets_tests.benchmarks.generated_files.log import write_log


def test_later_ratings_and_new_users_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "films.csv"
    write_log(20_000, path)
    text = path.read_text()
    append(path)
    assert path.read_text().startswith(text)
    log = pd.read_csv(path)
    before, more = log[:20_000], log[20_000:]
    assert list(log.columns) == ["user_id", "film", "rating", "watched_at"]
    assert len(more) == 1_000
    assert more["watched_at"].min() > before["watched_at"].max()
    new = set(more["user_id"]) - set(before["user_id"])
    assert more["user_id"].value_counts().to_dict() == {
        user: 50 if user in new else 20 for user in set(more["user_id"])
    }
    assert len(new) == 4
    assert not more.duplicated(["user_id", "film"]).any()
    assert set(more["rating"]) <= {mark / 2 for mark in range(1, 11)}


def rows(*values: tuple[str, int | None]) -> pd.DataFrame:
    return pd.DataFrame(values, columns=["user_id", "window"]).astype({"window": "Int64"})


def test_users_change_with_their_rows_whatever_the_order() -> None:
    before = rows(("a", 1), ("a", 2), ("b", 1), ("c", 1), ("d", None))
    assert changed_users(before, before[::-1]) == {"new": set(), "gone": set(), "changed": set()}
    after = rows(("d", None), ("a", 2), ("a", 1), ("b", 1), ("b", 2), ("e", 1))
    assert changed_users(before, after) == {"new": {"e"}, "gone": {"c"}, "changed": {"b"}}


def test_partitions_and_users_are_counted_by_table() -> None:
    usage = pd.DataFrame()
    before = State(
        {
            ("rating_windows", "films"): (1, "x"),
            ("initial_personas", "films"): (2, "y"),
            ("mae_table", "{}"): (3, "z"),
        },
        {"rating_windows": rows(("a", 1), ("b", 1)), "initial_personas": rows(("a", 0), ("b", 0))},
        usage,
    )
    after = State(
        {
            ("rating_windows", "films"): (4, "w"),
            ("initial_personas", "films"): (5, "y"),
            ("mae_table", "{}"): (3, "z"),
        },
        {
            "rating_windows": rows(("a", 1), ("a", 2), ("b", 1), ("c", 1)),
            "initial_personas": rows(("a", 0), ("b", 0)),
        },
        usage,
    )
    counted = differences(before, after)
    assert counted.fillna(-1).set_index("table").to_dict("index") == {
        "rating_windows": dict(zip(counted.columns[1:], (1, 1, 1, 3, 1, 0, 1), strict=True)),
        "initial_personas": dict(zip(counted.columns[1:], (1, 1, 0, 2, 0, 0, 0), strict=True)),
        "mae_table": dict(zip(counted.columns[1:], (1, 0, 0, -1, -1, -1, -1), strict=True)),
    }
