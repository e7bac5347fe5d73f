"""The checks on histories that warn, and what stops a domain without anybody to evaluate."""

from pathlib import Path

import pandas as pd
import pytest
from dagster import AssetCheckSeverity

from deeper_assets.checks.histories import ratings_differ, someone_to_evaluate, titles_tell
from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.windows import UserSampling, WindowRules
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.checks.test_training import figures

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


def test_where_nobody_is_evaluated_the_check_says_why_and_what_shows_it(tmp_path: Path) -> None:
    rejected = pd.DataFrame(
        {"user_id": ["a", "b"], "row": None, "reason": "too_few_windows", "ratings": [30, 12]}
    )
    warehouse = Warehouse(tmp_path / "my home" / "warehouse.duckdb")
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
