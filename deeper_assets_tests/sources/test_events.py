"""Logs of events of one's own: what is read, what is rejected, who is in, and where sessions end."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from deeper_assets.method.domains import FIVE_STARS, PAPER_DOMAINS, Domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.method.induction.cutting import (
    EVENTS,
    MOST_EVENTS,
    REJECTED,
    Accounts,
    SessionRules,
    cut_log,
)
from deeper_assets.method.induction.events import events_of_log
from deeper_assets.method.induction.rejects import REASONS
from deeper_assets.method.windows import UserSampling, stable_share
from deeper_assets.sources.events import EventColumns, EventLog, borders_of
from deeper_assets.sources.hashed import HIDDEN, HashedSource
from deeper_assets.sources.people import PlantedPeople, planted_log
from deeper_assets.sources.shape import Source, scratch
from deeper_assets.store.schema import TABLES
from deeper_assets_tests.postgres import own_postgres

SHOP = Domain("shop", "product", FIVE_STARS, seen=False)
TIMED = EventColumns("u", "x", time="t")
ORDERED = EventColumns("u", "x", order="n")
SILENCE = SessionRules("silence", 30, 7)
EVERYBODY = UserSampling()


def cut(
    source: Source, rules: SessionRules = SILENCE, sampling: UserSampling = EVERYBODY
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Accounts]:
    """The events and the rejects of a log, by user and place, and where everything went."""
    with scratch() as (connection, folder):
        source.load(connection, folder)
        accounts = cut_log(connection, source.domain, rules, sampling)
        events = connection.execute(f"FROM {EVENTS} ORDER BY user_id, session, event").df()
        rejected = connection.execute(f'FROM {REJECTED} ORDER BY "row" NULLS LAST, user_id').df()
    assert accounts.adds_up
    assert tuple(events.columns) == TABLES["events"].column_names
    assert tuple(rejected.columns) == TABLES["rejected_events"].column_names
    assert set(rejected["reason"]) <= REASONS.keys()
    return [
        frame.astype(object).where(frame.notna(), None).to_dict("records") for frame in (events, rejected)
    ] + [accounts]  # type: ignore[return-value]


def log(folder: Path, text: str, columns: EventColumns = TIMED, name: str = "log.csv") -> EventLog:
    path = folder / name
    path.write_text(text)
    return EventLog(SHOP, columns, file=path)


def picked(rows: list[dict[str, Any]], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


def test_an_event_has_everything_that_its_line_says(tmp_path: Path) -> None:
    columns = EventColumns("u", "x", time="t", session="s", item="i", kind="k", sign="g")
    text = "u,x,t,s,i,k,g\na,  red &amp;  blue shoes,1700000000,v1,sku7,buy,-2.5\na,hats,1700000001,v1,,,\n"
    source = log(tmp_path, text, columns)
    first, second = cut(source, replace(SILENCE, borders=borders_of(columns)))[0]
    assert first == {
        **{"domain": "shop", "user_id": "a", "split": "train", "session": 0, "event": 0, "window": 0},
        **{"text": "red & blue shoes", "item_id": "sku7", "kind": "buy", "sign": -1},
        **{"happened_at": pd.Timestamp("2023-11-14 22:13:20"), "file": "log.csv", "line": 2},
    }
    # Where a log names items, an event without one is about none; elsewhere its text is the item.
    assert (second["item_id"], second["kind"], second["sign"]) == (None, None, 0)
    (plain,) = cut(log(tmp_path, "u,x,t\na,hats,1700000001\n"))[0]
    assert plain["item_id"] == "hats"


def test_what_cannot_be_used_is_rejected_with_line_and_reason(tmp_path: Path) -> None:
    columns = EventColumns("u", "x", time="t", session="s", sign="g")
    lines = [
        "u,x,t,s,g",
        "a,hats,10,v,1",
        ",hats,10,v,1",
        "a,,10,v,1",
        "a,hats,never,v,1",
        "a,hats,,v,1",
        "a,hats,10,,1",
        "a,hats,10,v,good",
        "a,hats,10,v,nan",
        "a,hats",
        f"a,{'x' * 1001},10,v,1",
        "\u200b,hats,10,v,1",
        "c,hats,never,v,1",
    ]
    rules = replace(SILENCE, borders="given")
    events, rejected, accounts = cut(log(tmp_path, "\n".join(lines) + "\n", columns), rules)
    assert picked(events, "user_id", "line") == [("a", 2)]
    assert picked(rejected, "user_id", "line", "reason", "detail", "events") == [
        (None, 3, "missing_user", "no user id", 1),
        ("a", 4, "empty_text", "the text is empty", 1),
        ("a", 5, "unreadable_time", "found 'never', expected a time", 1),
        ("a", 6, "unreadable_time", "found nothing, expected a time", 1),
        ("a", 7, "missing_session", "no session", 1),
        ("a", 8, "unreadable_sign", "found 'good', expected a number", 1),
        ("a", 9, "unreadable_sign", "found 'nan', expected a number", 1),
        (None, 10, "malformed_line", "Expected Number of Columns: 5 Found: 2 In: a,hats", 1),
        ("a", 11, "unusable_text", f"the text has 1001 characters, 1000 at most: {'x' * 80}", 1),
        ("\u200b", 12, "missing_user", "no user id", 1),
        ("c", 13, "unreadable_time", "found 'never', expected a time", 1),
        ("c", 13, "no_events", "no usable event", 0),
    ]
    assert accounts.parts == {
        **{"read": (2, 12), "used": (1, 1), "rejected": (1, 11), "not_sampled": (0, 0), "left_over": (0, 0)},
    }


ROWS = [("a", "hats", "2024-01-01 10:00:00"), ("b", "shoes", "2024-01-01 10:00:01")]
READ = [("a", "hats", pd.Timestamp(ROWS[0][2])), ("b", "shoes", pd.Timestamp(ROWS[1][2]))]


@pytest.mark.parametrize("kind", ["csv", "tsv.gz", "jsonl", "json.gz", "parquet", "database", "query"])
def test_every_kind_of_source_gives_the_same_events(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"log.{kind}"
    place: dict[str, Any] = {"file": path}
    first = 1
    values = ", ".join(map(str, ROWS))
    table = f"SELECT * FROM (VALUES {values}) log(u, x, t)"
    if kind in ("csv", "query"):
        path.with_suffix(".csv").write_text("\n".join([*map(",".join, [("u", "x", "t"), *ROWS])]) + "\n")
        first = 2 if kind == "csv" else 1
    elif kind == "tsv.gz":
        path.write_bytes(gzip.compress("\n".join(map("\t".join, [("u", "x", "t"), *ROWS])).encode()))
        first = 2
    elif kind.startswith("json"):
        text = "\n".join(json.dumps(dict(zip("uxt", row, strict=True))) for row in ROWS).encode()
        path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)
    elif kind == "parquet":
        duckdb.sql(table).write_parquet(str(path))
    else:
        with duckdb.connect(path) as connection:
            connection.execute(f"CREATE TABLE events AS {table}")  # as a table of ours is called
        place = {"database": path, "query": "FROM events"}
    if kind == "query":
        place = {"query": "FROM 'log.csv'", "folder": tmp_path}
    source = EventLog(SHOP, TIMED, **place)
    events = cut(source)[0]
    assert picked(events, "user_id", "text", "happened_at") == READ
    assert [row["line"] for row in events] == [first, first + 1]
    assert source.identity()["kind"] == "events"


def sessions(rows: list[dict[str, Any]]) -> list[str]:
    """The texts of each session, one after another."""
    frame = pd.DataFrame(rows)
    assert (frame.groupby(["user_id", "session"])["event"].transform("cumcount") == frame["event"]).all()
    return [" ".join(own["text"]) for _, own in frame.groupby(["user_id", "session"])]


def test_silence_ends_a_session_and_events_at_one_time_stay_as_they_stand(tmp_path: Path) -> None:
    rows = [("a", "e", 4000), ("a", "b", 60), ("a", "a", 60), ("a", "c", 1860), ("a", "d", 3661)]
    text = "u,x,t\n" + "".join(f"{user},{what},{at}\n" for user, what, at in rows)
    # From 60 to 1860 are thirty minutes, which end nothing; from 1860 to 3661 is one second more.
    assert sessions(cut(log(tmp_path, text))[0]) == ["b a c", "d e"]
    assert sessions(cut(log(tmp_path, text), SessionRules("silence", 4, 7))[0]) == ["b a", "c", "d", "e"]


def test_a_session_that_is_given_is_used_as_it_is(tmp_path: Path) -> None:
    rows = [("a", "a", 1, "y"), ("a", "b", 2, "x"), ("a", "c", 9999999, "y"), ("b", "d", 3, "x")]
    text = "u,x,t,s\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    columns = replace(TIMED, session="s")
    assert borders_of(columns) == "given"
    assert sessions(cut(log(tmp_path, text, columns), SessionRules("given", 30, 7))[0]) == ["a c", "b", "d"]


def test_without_times_a_session_has_ten_events_in_their_order(tmp_path: Path) -> None:
    assert (borders_of(ORDERED), borders_of(TIMED), borders_of(None)) == ("order", "silence", "silence")
    text = "u,x,n\n" + "".join(f"a,e{place},{place}\n" for place in reversed(range(12)))
    events = cut(log(tmp_path, text, ORDERED), SessionRules("order", 30, 7))[0]
    assert sessions(events) == [" ".join(f"e{place}" for place in range(10)), "e10 e11"]
    assert {row["happened_at"] for row in events} == {None}
    both = replace(ORDERED, time="t")
    assert borders_of(both) == "silence"
    (first, second) = cut(log(tmp_path, "u,x,n,t\na,late,2,5\na,early,1,9\n", both))[0]
    assert (first["text"], second["text"]) == ("early", "late")  # the order decides


def test_a_long_session_goes_on_as_the_next_and_windows_are_bounded(tmp_path: Path) -> None:
    text = "u,x,t\n" + "".join(f"a,e{place},{place}\n" for place in range(MOST_EVENTS * 5 + 1))
    events, _, accounts = cut(log(tmp_path, text), SessionRules("silence", 30, 1))
    assert [len(one.split()) for one in sessions(events)] == [MOST_EVENTS] * 4
    assert {row["window"] for row in events} == {0}
    assert accounts.parts["left_over"] == (0, MOST_EVENTS + 1)
    assert accounts.parts["used"] == (1, MOST_EVENTS * 4)


def test_users_are_sampled_by_their_shares(tmp_path: Path) -> None:
    text = "u,x,t\n" + "".join(f"u{user},hats,{user}\n" for user in range(40))
    sampling = UserSampling(seed=7, train_share=0.3, train_users=3, eval_users=4, seen=False)
    events, _, accounts = cut(log(tmp_path, text), sampling=sampling)
    shares = {f"u{user}": stable_share(7, "shop", f"u{user}") for user in range(40)}
    of = {
        "train": sorted((user for user in shares if shares[user] < 0.3), key=shares.__getitem__)[:3],
        "eval": sorted((user for user in shares if shares[user] >= 0.3), key=shares.__getitem__)[:4],
    }
    assert {row["user_id"]: row["split"] for row in events} == {
        user: split for split, users in of.items() for user in users
    }
    assert accounts.parts["not_sampled"] == (33, 33)


def test_the_log_of_generated_people_is_cut_in_sql_as_it_is_in_frames(tmp_path: Path) -> None:
    people = PlantedPeople(PAPER_DOMAINS[0], seed=5, users=12, noise=0.2)
    path = tmp_path / "people.parquet"
    planted_log(people).to_parquet(path)
    columns = EventColumns("user_id", "text", time="happened_at")
    sampling = UserSampling(seed=3, train_users=4, eval_users=3)
    source = EventLog(PAPER_DOMAINS[0], columns, file=path)
    frame = events_of_log(planted_log(people), PAPER_DOMAINS[0], 30, sampling)
    same = ["user_id", "split", "session", "event", "window", "text", "item_id", "sign"]
    frame = frame.sort_values(["user_id", "session", "event"])
    assert picked(cut(source, SILENCE, sampling)[0], *same) == [*map(tuple, frame[same].to_numpy())]


def test_hashed_ids_hide_what_could_quote_them(tmp_path: Path) -> None:
    columns = replace(TIMED, sign="g")
    source = log(tmp_path, "u,x,t,g\nanna,hats,1,\nanna,hats,anna,\nanna,hats,1,anna\nanna,\n", columns)
    hashed = HashedSource(source, lambda: "s" * 64, "logged")
    events, rejected, _ = cut(hashed)
    (plain, *_), _, _ = cut(source)
    assert len(events) == 1
    assert events[0] == {**plain, "user_id": events[0]["user_id"], "split": events[0]["split"]}
    assert len(events[0]["user_id"]) == 32
    assert [row["detail"] for row in rejected] == [HIDDEN] * 3
    assert "anna" not in json.dumps([*events, *rejected], default=str)


def test_what_is_read_decides_the_identity(tmp_path: Path) -> None:
    source = log(tmp_path, "u,x,t\na,hats,1\n")
    before = source.identity()
    assert replace(source, columns=replace(TIMED, item="x")).identity() != before
    log(tmp_path, "u,x,t\na,caps,1\n")
    assert source.identity() != before
    assert source.identity_since(before) == source.identity()
    assert replace(source, refresh="manual").identity_since(before) == before
    assert source.files() == [tmp_path / "log.csv"]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            EventColumns("u", "x"),
            "the source of domain 'shop': events happen one after another: name events.",
        ),
        (EventColumns("user", "x", time="t"), "log.csv has no column user (user); it has u, x, t"),
    ],
)
def test_columns_that_do_not_fit_are_told(columns: EventColumns, told: str, tmp_path: Path) -> None:
    with pytest.raises(DeeperError) as error:
        cut(log(tmp_path, "u,x,t\na,hats,1\n", columns))
    assert str(error.value).startswith(told)


def test_a_log_without_lines_has_nobody(tmp_path: Path) -> None:
    events, rejected, accounts = cut(log(tmp_path, "u,x,t\n"))
    assert (events, rejected, set(accounts.parts.values())) == ([], [], {(0, 0)})


def test_a_query_on_postgres_is_a_log_and_its_answer_tells_of_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_postgres() as dsn:
        import psycopg

        monkeypatch.setenv("EVENTS_DSN", dsn)
        with psycopg.connect(dsn, autocommit=True) as session:
            session.execute("CREATE TABLE log (u text, x text, t timestamptz, g int)")
            session.execute("INSERT INTO log VALUES ('a', 'hats', '2024-01-01 10:00+00', -1)")
            session.execute("INSERT INTO log VALUES ('b', NULL, '2024-01-01 10:00:01+00', NULL)")
            columns = replace(TIMED, sign="g")
            source = EventLog(SHOP, columns, query="SELECT * FROM log ORDER BY u", dsn_env="EVENTS_DSN")
            events, rejected, _ = cut(source)
            assert picked(events, "user_id", "text", "happened_at", "sign", "file", "line") == [
                ("a", "hats", READ[0][2], -1, "query on $EVENTS_DSN", 1)
            ]
            assert picked(rejected, "user_id", "line", "reason") == [
                ("b", 2, "empty_text"),
                ("b", 2, "no_events"),
            ]
            before = source.identity_since(source.identity())
            assert source.identity_since(before) == before
            session.execute("UPDATE log SET x = 'caps' WHERE u = 'b'")
            assert source.identity_since(before) != before
