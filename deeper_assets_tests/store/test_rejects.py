"""Rejected ratings counted in the warehouse."""

from pathlib import Path

import pandas as pd
import pytest

from deeper_assets.store.rejects import EVENTS, Rejects, read_rejects
from deeper_assets.store.schema import TABLES
from deeper_assets.store.warehouse import Warehouse
from deeper_assets_tests.store.samples import stamp


def rows(table: str, given: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(given).reindex(columns=list(TABLES[table].column_names)).astype(object)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """Films: a is used; b rated off the scale five times and fell out; of nobody there is one rating."""
    here = Warehouse(tmp_path / "w.duckdb")
    for domain in ("films", "songs"):
        users: list[tuple[str | None, int]] = [("a", 2), ("b", 5), (None, 1)]
        raw = [
            {"domain": domain, "user_id": user, "title": f"T {user} {n}", "rating_text": "9", "file": "r.csv"}
            for user, count in (users if domain == "films" else users[:1])
            for n in range(count)
        ]
        raw = [{**row, "row": number, "line": number + 2} for number, row in enumerate(raw)]
        here.replace("raw_ratings", {"domain": domain}, rows("raw_ratings", raw), stamp())
        out = [
            {**row, "reason": "outside_scale" if row["user_id"] == "b" else "missing_user", "ratings": 1}
            for row in raw
            if row["user_id"] != "a"
        ]
        if domain == "films":
            gone = {"user_id": "b", "reason": "too_few_windows", "ratings": 0, "file": "r.csv", "line": 4}
            out.append({"domain": domain, **gone})
        here.replace("rejected_ratings", {"domain": domain}, rows("rejected_ratings", out), stamp())
        parts = (
            [("read", 2, 8), ("used", 1, 2), ("rejected", 1, 6)]
            if domain == "films"
            else [
                ("read", 1, 2),
                ("used", 1, 2),
                ("rejected", 0, 0),
            ]
        )
        accounts = [{"domain": domain, "part": part, "users": u, "ratings": r} for part, u, r in parts]
        here.replace("rating_accounts", {"domain": domain}, rows("rating_accounts", accounts), stamp())
    return here


def read(warehouse: Warehouse, domain: str | None, reason: str | None, each: int) -> Rejects:
    with warehouse.connect(writing=False) as connection:
        return read_rejects(connection, domain, reason, each)


def test_counts_by_domain_and_reason(warehouse: Warehouse) -> None:
    everything = read(warehouse, None, None, 0)
    # domain, ratings and users read, users used, users and ratings rejected
    assert everything.domains.values.tolist() == [["films", 8, 2, 1, 1, 6], ["songs", 2, 1, 1, 0, 0]]
    assert everything.counts.values.tolist() == [
        ["films", "outside_scale", 1, 5],
        ["films", "missing_user", 0, 1],
        ["films", "too_few_windows", 1, 0],
    ]
    assert everything.examples.empty


def test_examples_are_the_first_of_the_source(warehouse: Warehouse) -> None:
    of_films = read(warehouse, "films", None, 2).examples
    assert of_films[["reason", "line", "title", "rating_text"]].astype(object).where(
        of_films[["reason", "line", "title", "rating_text"]].notna(), None
    ).values.tolist() == [
        ["missing_user", 9, "T None 0", "9"],
        ["outside_scale", 4, "T b 0", "9"],
        ["outside_scale", 5, "T b 1", "9"],
        ["too_few_windows", 4, None, None],
    ]
    one_reason = read(warehouse, None, "outside_scale", 20)
    assert len(one_reason.examples) == 5
    assert one_reason.counts.values.tolist() == [["films", "outside_scale", 1, 5]]
    assert read(warehouse, "songs", "outside_scale", 20).counts.empty


def test_of_logs_the_events_are_counted_and_shown(warehouse: Warehouse) -> None:
    shop = {"domain": "shop", "user_id": "a", "file": "log.csv"}
    out = [
        {**shop, "row": 4, "line": 5, "text": "hats", "reason": "unreadable_time", "events": 1},
        {**shop, "line": 5, "reason": "no_events", "events": 0},
    ]
    warehouse.replace("rejected_events", {"domain": "shop"}, rows("rejected_events", out), stamp())
    accounts = [
        {"domain": "shop", "part": part, "users": u, "events": e}
        for part, u, e in (("read", 3, 9), ("used", 2, 8), ("rejected", 1, 1))
    ]
    warehouse.replace("event_accounts", {"domain": "shop"}, rows("event_accounts", accounts), stamp())
    with warehouse.connect(writing=False) as connection:
        of = read_rejects(connection, None, None, 1, EVENTS)
    assert of.domains.values.tolist() == [["shop", 9, 3, 2, 1, 1]]
    assert of.counts.values.tolist() == [["shop", "unreadable_time", 1, 1], ["shop", "no_events", 1, 0]]
    assert of.examples[["reason", "line", "user_id"]].values.tolist() == [
        ["no_events", 5, "a"],
        ["unreadable_time", 5, "a"],
    ]
    assert list(of.examples["title"])[1] == "hats"
    assert list(read(warehouse, None, None, 0).domains["domain"]) == ["films", "songs"]


def test_before_anything_is_read_there_is_nothing(tmp_path: Path) -> None:
    assert read(Warehouse(tmp_path / "none.duckdb"), None, None, 3).domains.empty
