"""The checks on events: that all of a log is accounted for, and that somebody has some."""

from pathlib import Path

import pandas as pd
import pytest

from deeper_assets.checks.induction import (
    claims_judged,
    events_accounted_for,
    sets_readable,
    sets_usable,
    someone_has_events,
)
from deeper_assets.method.domains import FIVE_STARS, Domain
from deeper_assets.method.windows import UserSampling
from deeper_assets.store.relation import Relation
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.checks.test_training import figures
from deeper_assets_tests.store.samples import stamp

SHOP = Domain("shop", "product", FIVE_STARS, seen=False)


def rejected(folder: Path, *rows: tuple[str | None, int | None, str]) -> Relation:
    """Rows of rejected_events: user, row, reason; without a row, of a user."""
    frame = pd.DataFrame(rows, columns=["user_id", "row", "reason"]).astype(object)
    frame = frame.assign(domain="shop", file="log.csv", line=2, events=frame["row"].notna().astype(int))
    frame = frame.reindex(columns=list(TABLES["rejected_events"].column_names)).astype(
        {"text": object, "detail": object}
    )
    warehouse, shop = Warehouse(folder / "warehouse.duckdb"), {"domain": "shop"}
    warehouse.replace("rejected_events", shop, frame, stamp())
    return Relation(warehouse, "rejected_events", (shop,))


def events(*splits: str) -> pd.DataFrame:
    """Two events of each user, whose splits are given."""
    users = [(f"u{number}", split) for number, split in enumerate(splits) for _ in range(2)]
    return pd.DataFrame(users, columns=["user_id", "split"])


def test_what_is_stored_has_to_add_up_to_what_was_read(tmp_path: Path) -> None:
    fell_out = rejected(tmp_path, ("z", 4, "empty_text"), (None, 5, "missing_user"), ("z", None, "no_events"))
    parts = [("read", 4, 12), ("used", 2, 4), ("rejected", 1, 2), ("not_sampled", 1, 5), ("left_over", 0, 1)]
    accounts = pd.DataFrame(parts, columns=["part", "users", "events"])
    rows = events("train", "eval")
    result = events_accounted_for(rows, fell_out, accounts)
    assert (result.passed, result.description) == (True, "4 users with 12 events, 2 used")
    assert figures(result) == {"users": 4, "events": 12}
    lost = events_accounted_for(rows.iloc[1:], fell_out, accounts)
    assert not lost.passed
    assert lost.description == "4 users with 12 events, 2 used; these do not add up: used"
    accounts.loc[0, "events"] = 13
    assert str(events_accounted_for(rows, fell_out, accounts).description).endswith("add up: read")
    assert events_accounted_for(rows, fell_out, accounts.iloc[:0]).passed  # ratings, or generated people


@pytest.mark.parametrize(
    ("splits", "rows", "why"),
    [
        (["train", "train"], [], "all 2 users train; lower train_share (0.5)"),
        ([], [], "the source holds no events"),
        (
            [],
            [("a", 1, "unreadable_time"), ("b", 2, "unreadable_time"), ("a", 3, "empty_text")],
            "unreadable_time: 2 users, 2 events (change events.time, or correct the rows)",
        ),
    ],
)
def test_where_nobody_has_events_the_check_says_why_and_what_shows_it(
    tmp_path: Path, splits: list[str], rows: list[tuple[str | None, int | None, str]], why: str
) -> None:
    fell_out = rejected(tmp_path, *rows)
    result = someone_has_events(events(*splits), fell_out, SHOP, UserSampling(), fell_out.warehouse)
    assert not result.passed
    command = f"deeper rejects --domain shop --home {tmp_path}"
    assert result.description == f"0 evaluation users: {why}; `{command}` shows what fell out"


def test_where_somebody_has_events_it_passes(tmp_path: Path) -> None:
    fell_out = rejected(tmp_path)
    result = someone_has_events(events("train", "eval"), fell_out, SHOP, UserSampling(), fell_out.warehouse)
    assert (result.passed, result.description) == (True, "1 evaluation users")


@pytest.mark.parametrize("lost", [0, 3])
def test_what_cannot_be_read_of_sets_and_claims_stops_a_run(lost: int) -> None:
    texts = [f"text {number}" for number in range(4)]
    reasons = ["no_json" if number < lost else None for number in range(4)]
    candidates = pd.DataFrame({"text": texts, "unusable": reasons})
    writings = pd.DataFrame({"text": texts, "note": reasons})
    judged = pd.DataFrame({"shown_by": [None if reason else "" for reason in reasons], "note": reasons})
    results = [sets_usable(candidates, 0.5), sets_readable(writings, 0.5), claims_judged(judged, 0.5)]
    assert [result.passed for result in results] == [not lost] * 3
