"""The checks on histories that warn, and what stops a domain without anybody to evaluate."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from dagster import AssetCheckSeverity

from deeper_assets.checks.histories import (
    everything_accounted_for,
    ratings_differ,
    someone_to_evaluate,
    titles_tell,
)
from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.windows import UserSampling, WindowRules
from deeper_assets.store.relation import Relation
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.checks.test_training import figures
from deeper_assets_tests.store.samples import stamp

FILMS = Domain("films", "film", Scale(1, 5, 1), seen=True)


def windows(ratings: list[float], titles: list[str]) -> pd.DataFrame:
    """Of ten users, who all give these ratings to items with these titles."""
    return pd.DataFrame(
        [
            (f"u{user}", "train", f"i{n}", title, rating)
            for user in range(10)
            for n, (rating, title) in enumerate(zip(ratings, titles, strict=True))
        ],
        columns=["user_id", "split", "item_id", "title", "rating"],
    )


def test_one_mark_is_warned_of() -> None:
    rows = windows([4, 4], ["Alien", "Heat"])
    result = ratings_differ(rows)
    assert not result.passed
    assert result.severity == AssetCheckSeverity.WARN
    assert result.description == (
        "10 of 10 users give one mark alone, e.g. 4; then no method errs. Look at what columns.rating names"
    )
    assert figures(result) == {"users": 10, "users with one mark": 10, "marks": 1}
    rows.loc[rows["user_id"].isin(["u0", "u1"]) & (rows["item_id"] == "i0"), "rating"] = 5
    assert ratings_differ(rows).passed  # eight of ten
    assert ratings_differ(rows).description == "8 of 10 users give one mark alone"


@pytest.mark.parametrize(
    ("titles", "description"),
    [
        (
            ["B00X4WHP5E", "B00X4WHP5F"],
            "2 of 2 titles are codes, e.g. 'B00X4WHP5E'; name the column of what items are called in"
            " columns.title",
        ),
        (
            ["film", "film"],
            "all 2 items have one title, e.g. 'film'; name the column of what items are called in"
            " columns.title",
        ),
    ],
)
def test_titles_that_say_nothing_are_warned_of(titles: list[str], description: str) -> None:
    result = titles_tell(windows([4, 5], titles))
    assert not result.passed
    assert result.severity == AssetCheckSeverity.WARN
    assert result.description == description


def test_titles_with_words_are_not() -> None:
    assert titles_tell(windows([4, 5], ["Se7en", "Heat"])).passed
    assert titles_tell(windows([4], ["film"])).passed  # one item alone


def stored(warehouse: Warehouse, rejected: Mapping[str, object]) -> Relation:
    """Rows of rejected_ratings of films, stored."""
    names, films = TABLES["rejected_ratings"].column_names, {"domain": "films"}
    frame = pd.DataFrame(rejected).reindex(columns=list(names)).astype({"row": object, "file": object})
    warehouse.replace("rejected_ratings", films, frame.astype({"line": object, "detail": object}), stamp())
    return Relation(warehouse, "rejected_ratings", (films,))


def test_what_is_stored_has_to_add_up_to_what_was_read(tmp_path: Path) -> None:
    rejected = stored(
        Warehouse(tmp_path / "warehouse.duckdb"),
        {"user_id": ["z"], "reason": "too_few_windows", "ratings": [7], "domain": "films"},
    )
    parts = [("read", 12, 30), ("used", 10, 20), ("rejected", 1, 7), ("not_sampled", 1, 2)]
    accounts = pd.DataFrame([*parts, ("left_over", 0, 1)], columns=["part", "users", "ratings"])
    rows = windows([4, 5], ["Alien", "Heat"])
    result = everything_accounted_for(rows, rejected, accounts)
    assert result.passed
    assert result.description == "12 users with 30 ratings, 10 used"
    assert figures(result)["ratings left over"] == 1
    lost = everything_accounted_for(rows.iloc[1:], rejected, accounts)
    assert not lost.passed
    assert lost.description == "12 users with 30 ratings, 10 used; these do not add up: used"
    accounts.loc[0, "ratings"] = 31
    assert everything_accounted_for(rows, rejected, accounts).description.endswith("add up: read")


def test_where_nobody_is_evaluated_the_check_says_why_and_what_shows_it(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "my home" / "warehouse.duckdb")
    rejected = stored(
        warehouse,
        {"user_id": ["a", "b"], "reason": "too_few_windows", "ratings": [30, 12], "domain": "films"},
    )
    rows = windows([4], ["Alien"]).iloc[:0]
    result = someone_to_evaluate(rows, rejected, FILMS, WindowRules(), UserSampling(), warehouse)
    assert not result.passed
    assert result.description == (
        "0 evaluation users: too_few_windows: 2 users, 42 ratings (change windows_at_least (5), or a source"
        f" with longer histories); `deeper rejects --domain films --home '{tmp_path}/my home'` shows who fell"
        " out"
    )
    assert figures(result) == {
        "evaluation users": 0,
        "users rejected": {"too_few_windows": 2},
        "ratings rejected": {"too_few_windows": 42},
    }
