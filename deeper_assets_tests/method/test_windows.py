from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from statistics import mean
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeper_assets.method.cutting import STABLE_SHARE, account
from deeper_assets.method.domains import PAPER_DOMAINS, Domain, Scale, find_domain
from deeper_assets.method.windows import (
    REASONS,
    Accounting,
    Tally,
    UserSampling,
    WindowRules,
    stable_share,
)
from deeper_assets.sources.published import PublishedSource
from deeper_assets.sources.shape import COLUMNS
from deeper_assets.store.schema import TABLES
from deeper_assets_tests.sources import reading
from deeper_assets_tests.sources.reading import frame, real_data

BOOK = find_domain("book")
GROCERY = find_domain("grocery")
RULES = WindowRules()
SHORT = WindowRules(size=2, at_least=2, at_most=3)
NAMES = {
    name: list(TABLES[name].column_names) for name in ("raw_ratings", "rejected_ratings", "rating_windows")
}

SHARES = [0.974165865396216, 0.9943477645965608]


def rating(user: str | None, position: int | None, **changed: Any) -> dict[str, Any]:
    row = {
        "user_id": user,
        "item_id": f"i{position}",
        "title": f"Title {position}",
        "rating_text": "4",
        "rating": 4.0,
        "position": position,
        "file": "ratings.csv",
        "line": 1,
    }
    return row | changed


def history(user: str, ratings: int, **changed: Any) -> list[dict[str, Any]]:
    return [rating(user, position, **changed) for position in range(ratings)]


def raw_frame(rows: Iterable[dict[str, Any]], domain: Domain = BOOK) -> pd.DataFrame:
    """The relation `ratings` of a source that says positions; `domain` is there for the eye."""
    assert domain.name
    frame = pd.DataFrame([{"row": n, **row} for n, row in enumerate(rows)]).reindex(columns=list(COLUMNS))
    return frame.astype({"rating": "float64", "position": "float64", "rated_at": "datetime64[us]"})


@contextmanager
def connected(raw: pd.DataFrame) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with these rows as the relation `ratings`."""
    typed = ", ".join(
        f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in COLUMNS.items() if name != "has_place"
    )
    with duckdb.connect() as connection:
        connection.register("given", raw)
        connection.execute(
            f"CREATE TEMP TABLE ratings AS SELECT {typed}, position IS NOT NULL AS has_place FROM given"
        )
        yield connection


def cut(
    raw: pd.DataFrame, domain: Domain = BOOK, rules: WindowRules = SHORT, sampling: UserSampling | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, Accounting]:
    """(rejected, windows, accounting), which add up."""
    with connected(raw) as connection:
        done = reading.cut(connection, domain, rules, sampling or UserSampling(), placed=True)
    rejected, windows, counts = done.rejected, done.windows, done.accounting
    assert list(done.kept.columns) == NAMES["raw_ratings"]
    assert list(rejected.columns) == NAMES["rejected_ratings"]
    assert list(windows.columns) == NAMES["rating_windows"]
    assert set(rejected["reason"]) <= set(REASONS)
    assert not rejected.duplicated(list(TABLES["rejected_ratings"].key)).any()
    assert not windows.duplicated(list(TABLES["rating_windows"].key)).any()
    assert counts.adds_up
    kept = set(done.kept["row"])
    assert set(rejected["row"].dropna()) <= kept
    sampled = raw[raw["user_id"].isin(windows["user_id"])]
    assert kept == set(sampled["row"]) | set(rejected["row"].dropna())
    return rejected, windows, counts


def values(table: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    plain = table[list(columns)].astype("object")
    return list(plain.where(plain.notna(), None).itertuples(index=False, name=None))


def places(windows: pd.DataFrame) -> list[tuple[Any, ...]]:
    return values(windows, "user_id", "window", "place")


def test_stable_share_is_pinned() -> None:
    """The same everywhere, for ever: a change would move users between train and eval."""
    assert [stable_share(0, "book", user) for user in ("a", "b")] == SHARES
    assert stable_share("ab", "c") != stable_share("a", "bc")
    shares = [stable_share(0, "book", user) for user in range(2000)]
    assert 0 <= min(shares) < 0.01
    assert 0.99 < max(shares) < 1
    assert abs(mean(shares) - 0.5) < 0.02


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_sql_has_the_same_shares(user: str) -> None:
    with duckdb.connect() as connection:
        for macro in STABLE_SHARE:
            connection.execute(macro)
        shares = connection.execute("SELECT stable_share('7', 'book', ?)", [user]).fetchall()
    assert shares == [(stable_share(7, "book", user),)]


@pytest.mark.parametrize(
    ("changed", "reason", "detail"),
    [
        (
            {"defect": "duplicate_row", "detail": "already in line 3", "position": None},
            "duplicate_row",
            "already in line 3",
        ),
        ({"defect": "unequal_lengths", "rating": np.nan}, "unequal_lengths", None),
        ({"user_id": None, "rating": 9.0}, "missing_user", "no user id"),
        ({"user_id": " "}, "missing_user", "no user id"),
        ({"user_id": "\u200b\ufeff\u2028\x07"}, "missing_user", "no user id"),
        ({"position": None, "title": ""}, "no_position", "the source gives it no position"),
        (
            {"rating": np.nan, "rating_text": "good", "title": ""},
            "not_a_number",
            "found 'good', expected a number",
        ),
        ({"rating": np.nan, "rating_text": None}, "not_a_number", "found '', expected a number"),
        ({"rating": np.inf, "rating_text": "inf"}, "not_a_number", "found 'inf', expected a number"),
        ({"rating": 0.0, "title": None}, "outside_scale", "0: no rating given"),
        ({"rating": 6.0}, "outside_scale", "6: the scale is from 1 to 5 in steps of 1"),
        ({"rating": 3.5}, "outside_scale", "3.5: the scale is from 1 to 5 in steps of 1"),
        ({"rating": -1.0}, "outside_scale", "-1: the scale is from 1 to 5 in steps of 1"),
        ({"title": None}, "empty_title", "the title is empty"),
        ({"title": " \t"}, "empty_title", "the title is empty"),
        ({"title": "\u200b\u200d\u00a0"}, "empty_title", "the title is empty"),
    ],
)
def test_a_rating_that_cannot_be_used(changed: dict[str, Any], reason: str, detail: str | None) -> None:
    rows = [*history("u", 6), rating("u", 6, line=8) | changed]
    rejected, windows, counts = cut(raw_frame(rows))
    expected = (rows[6]["user_id"], 6, "ratings.csv", 8, reason, detail, 1)
    assert values(rejected, *NAMES["rejected_ratings"][1:]) == [expected]
    assert (len(windows), counts.left_over, reasons(rejected)) == (6, 0, {reason: 1})


@pytest.mark.parametrize("scale", [Scale(0, 10, 0.5), Scale(-1, 1, 1)])
def test_0_can_be_a_mark(scale: Scale) -> None:
    rows = history("u", 7)
    rows[3]["rating"], rows[6]["rating"] = 0.0, -2.0
    for row in rows[:3] + rows[4:6]:
        row["rating"] = 1.0
    rejected, windows, _ = cut(raw_frame(rows), Domain("mine", "thing", scale, seen=True))
    assert values(rejected, "reason", "detail") == [("outside_scale", f"-2: the scale is {scale}")]
    assert windows["rating"].tolist() == [1, 1, 1, 0, 1, 1]


def test_users_with_short_histories_are_let_in_by_number() -> None:
    """Two places a window, two windows needed: u has them, a to d have one, e lacks W0, f has half of it."""
    rows = [*history("u", 4), *(row for user in "abcd" for row in history(user, 3))]
    rows += [rating("e", 0, rating=0.0), rating("e", 1, rating=0.0), rating("e", 2), rating("e", 3)]
    rows += [rating("f", 0)]
    raw = raw_frame(rows)
    first = sorted("abcd", key=lambda user: stable_share(0, "book", user))
    for number, let_in in ((0, []), (1, first[:1]), (3, first[:3]), (None, first)):
        rejected, windows, counts = cut(raw, sampling=UserSampling(short_users=number))
        short = windows[windows["split"] == "short"]
        assert sorted(set(short["user_id"])) == sorted(let_in)
        assert places(short) == [(user, 0, place) for user in sorted(let_in) for place in (0, 1)]
        assert (counts.short_users, counts.used.users, counts.left_over) == (
            len(let_in),
            1 + len(let_in),
            len(let_in),
        )
        fell_out = rejected[rejected["row"].isna()]
        assert set(fell_out["user_id"]) == {*"abcdef"} - set(let_in)
        assert set(fell_out["reason"]) == {"too_few_windows"}


def test_short_histories_do_not_depend_on_the_split_of_the_source() -> None:
    rows = [*history("u", 4, split="train"), *history("a", 3, split="train"), *history("b", 3, split="eval")]
    for seen in (True, False):
        _, windows, counts = cut(raw_frame(rows), sampling=UserSampling(short_users=None, seen=seen))
        split = dict(values(windows, "user_id", "split"))
        assert split == {"a": "short", "b": "short", **({"u": "train"} if seen else {})}
        assert counts.unseen_train.users == (0 if seen else 1)


def reasons(rejected: pd.DataFrame) -> dict[Any, int]:
    """Rejected ratings per reason."""
    return rejected.groupby("reason")["ratings"].sum().to_dict()


def test_a_rejected_rating_moves_nothing() -> None:
    rows = history("u", 6)
    rows[2]["rating"] = 0.0
    rejected, windows, _ = cut(raw_frame(rows))
    assert len(rejected) == 1
    assert places(windows) == [("u", 0, 0), ("u", 0, 1), ("u", 1, 1), ("u", 2, 0), ("u", 2, 1)]
    assert values(windows, "title", "item_id", "rating", "rated_at")[2] == ("Title 3", "i3", 4.0, None)


def test_a_window_without_a_usable_rating_does_not_count() -> None:
    rows = history("u", 6)
    rows[2]["rating"] = rows[3]["rating"] = 0.0
    assert places(cut(raw_frame(rows))[1])[2:] == [("u", 2, 0), ("u", 2, 1)]
    rejected, windows, counts = cut(raw_frame(rows[:4]))
    assert values(rejected, "row", "reason", "detail", "ratings")[-1] == (
        None,
        "too_few_windows",
        "1 usable windows, 2 needed",
        2,
    )
    assert (len(windows), counts.rejected) == (0, Tally(1, 4))


def test_a_user_needs_the_first_window() -> None:
    rows = history("u", 6, line=5)
    rows[0]["rating"] = rows[1]["rating"] = 0.0
    rejected, windows, _ = cut(raw_frame(rows))
    assert values(rejected, "user_id", "row", "file", "line", "reason", "detail", "ratings")[-1] == (
        "u",
        None,
        "ratings.csv",
        5,
        "no_first_window",
        "no usable rating in W0",
        4,
    )
    assert windows.empty


def test_a_user_stands_where_the_source_names_it_first() -> None:
    rows = [rating("u", None, defect="duplicate_row", line=4), rating("u", 1, line=2), rating("u", 0, line=3)]
    rejected, _, _ = cut(raw_frame(rows))
    assert values(rejected[rejected["row"].isna()], "line", "ratings") == [(4, 2)]


def test_a_user_without_any_usable_rating_is_counted() -> None:
    rejected, _, counts = cut(raw_frame([rating("u", 0, rating=0.0), *history("v", 4)]))
    assert values(rejected, "user_id", "reason", "ratings") == [
        ("u", "outside_scale", 1),
        ("u", "too_few_windows", 0),
    ]
    assert (counts.read, counts.used, counts.rejected) == (Tally(2, 5), Tally(1, 4), Tally(1, 1))


def test_57_ratings_are_five_windows() -> None:
    rejected, windows, counts = cut(raw_frame(history("u", 57)), rules=RULES)
    assert (len(rejected), len(windows), counts.left_over) == (0, 50, 7)
    assert max(windows["window"]) == 4


def test_what_comes_after_the_last_window_is_left_over() -> None:
    rejected, windows, counts = cut(raw_frame(history("u", 83)), rules=RULES)
    assert (len(rejected), len(windows), counts.left_over) == (0, 70, 13)
    assert values(windows.tail(1), "window", "place", "title") == [(6, 9, "Title 69")]


def test_the_source_decides_whether_a_window_is_complete() -> None:
    """A rejected rating still fills its place; one that is not there does not."""
    rows = history("u", 50)
    rows[45]["rating"] = 0.0
    _, windows, counts = cut(raw_frame(rows), rules=RULES)
    assert (len(windows), counts.left_over) == (49, 0)
    del rows[45]
    rejected, windows, _ = cut(raw_frame(rows), rules=RULES)
    assert values(rejected, "reason", "detail") == [("too_few_windows", "4 usable windows, 5 needed")]
    assert windows.empty


def test_the_source_splits_where_it_does() -> None:
    rows = [*history("t", 4, split="train"), *history("e", 4, split="eval"), *history("b", 4, split="train")]
    rows[-1]["split"] = "eval"
    windows = cut(raw_frame(rows), sampling=UserSampling(train_share=1.0))[1]
    assert dict(values(windows.drop_duplicates("user_id"), "user_id", "split")) == {
        "t": "train",
        "e": "eval",
        "b": "eval",
    }


def test_a_hash_splits_where_the_source_does_not() -> None:
    users = [f"u{n}" for n in range(40)]
    raw = raw_frame([row for user in users for row in history(user, 4)])
    sampling = UserSampling(seed=7, train_share=0.3)
    _, windows, counts = cut(raw, sampling=sampling)
    trained = {user for user in users if stable_share(7, "book", user) < 0.3}
    assert set(windows.loc[windows["split"] == "train", "user_id"]) == trained
    assert (counts.train_users, counts.eval_users) == (len(trained), 40 - len(trained))
    assert cut(raw, sampling=UserSampling(train_share=0.0))[2].eval_users == 40
    assert cut(raw, sampling=UserSampling(train_share=1.0))[2].train_users == 40


def test_an_unseen_domain_only_evaluates() -> None:
    rows = [*history("t", 5, split="train"), *history("e", 4, split="eval"), *history("o", 4)]
    evaluates = UserSampling(train_share=1.0, seen=GROCERY.seen)
    _, windows, counts = cut(raw_frame(rows, GROCERY), GROCERY, sampling=evaluates)
    assert set(windows["user_id"]) == {"e", "o"}
    assert set(windows["split"]) == {"eval"}
    assert (counts.unseen_train, counts.not_sampled, counts.used) == (Tally(1, 5), Tally(0, 0), Tally(2, 8))


def test_samples_take_the_smallest_hashes() -> None:
    users = [f"u{n}" for n in range(30)]
    raw = raw_frame([row for user in users for row in history(user, 5)])
    _, windows, counts = cut(raw, sampling=UserSampling(train_share=0.5, train_users=3, eval_users=4))
    by_share = sorted(users, key=lambda user: stable_share(0, "book", user))
    trained = sum(stable_share(0, "book", user) < 0.5 for user in users)
    assert set(windows["user_id"]) == set(by_share[:3] + by_share[trained : trained + 4])
    assert (counts.train_users, counts.eval_users) == (3, 4)
    assert (counts.used, counts.not_sampled, counts.left_over) == (Tally(7, 28), Tally(23, 115), 7)
    assert cut(raw, sampling=UserSampling(train_users=0, eval_users=0))[2].used == Tally(0, 0)


def test_a_missing_item_id_is_the_title() -> None:
    windows = cut(raw_frame(history("u", 4, item_id=None)))[1]
    assert values(windows.head(1), "item_id") == [("Title 0",)]


def test_nothing_read_is_nothing_used() -> None:
    rejected, windows, counts = cut(raw_frame([]))
    assert (len(rejected), len(windows), counts.read) == (0, 0, Tally(0, 0))


def test_a_rating_that_got_lost_is_noticed() -> None:
    with connected(raw_frame(history("u", 5))) as connection:
        done = reading.cut(connection, BOOK, SHORT, UserSampling(), placed=True)
        assert (done.accounting.left_over, done.accounting.adds_up) == (1, True)
        connection.execute('DELETE FROM windows WHERE place = 1 AND "window" = 0')
        assert not account(connection, UserSampling()).adds_up


def test_everything_rejected() -> None:
    _, windows, counts = cut(raw_frame([rating(None, None, defect="malformed_line", rating=np.nan)] * 2))
    assert (len(windows), counts.read, counts.rejected) == (0, Tally(0, 2), Tally(0, 2))


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A few users with good and bad ratings, with gaps, unplaced and unnamed rows."""
    rows: list[dict[str, Any]] = []
    for user in draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=5)):
        split = draw(st.sampled_from([None, None, "train", "eval"]))
        for position in range(draw(st.integers(0, 9))):
            bad: dict[str, Any] = draw(
                st.sampled_from(
                    [{}] * 6
                    + [{"rating": 0.0}, {"title": ""}, {"defect": "unreadable_split"}, {"position": None}]
                )
            )
            rows.append(rating(user, position, split=split) | bad)
    return rows + [rating(None, None, defect="malformed_line")] * draw(st.integers(0, 2))


@settings(max_examples=40, deadline=None)
@given(rows=histories(), random=st.randoms(use_true_random=False), domain=st.sampled_from([BOOK, GROCERY]))
def test_laws(rows: list[dict[str, Any]], random: Any, domain: Domain) -> None:
    """Windows partition what is usable; the order of rows changes nothing; other users change nobody."""
    raw = raw_frame(rows, domain)
    rejected, windows, counts = cut(raw, domain)
    named = {row["user_id"] for row in rows if row["user_id"]}
    out = set(rejected.loc[rejected["row"].isna(), "user_id"])
    assert set(windows["user_id"]) | out <= named
    assert not set(windows["user_id"]) & out
    assert counts.read == Tally(len(named), len(rows))
    by_place = {
        (row["user_id"], row["position"]): row["title"] for row in rows if row["position"] is not None
    }
    for user, window, place, title in values(windows, "user_id", "window", "place", "title"):
        assert by_place[user, window * SHORT.size + place] == title
    order = list(range(len(raw)))
    random.shuffle(order)
    again = cut(raw.iloc[order], domain)
    pd.testing.assert_frame_equal(again[0], rejected)
    pd.testing.assert_frame_equal(again[1], windows)
    alone = sorted(named)[:1]
    few = raw[raw["user_id"].isin(alone)]
    own = windows[windows["user_id"].isin(alone)].reset_index(drop=True)
    pd.testing.assert_frame_equal(cut(few, domain)[1], own)


def median_errors(windows: pd.DataFrame) -> list[float]:
    """Rounds 0–4: the mean over users of |median of W0…Wr − rating| over window r + 1."""
    rounds = []
    for number in range(5):
        before = windows[windows["window"] <= number].groupby("user_id")["rating"].median()
        after = windows[windows["window"] == number + 1]
        errors = (after["rating"] - after["user_id"].map(before)).abs()
        rounds.append(errors.groupby(after["user_id"]).mean().mean())
    return rounds


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[Domain, pd.DataFrame]:
    folder = real_data("deeper").parent
    target = tmp_path_factory.mktemp("published")
    return {domain: frame(PublishedSource(domain, folder), target) for domain in PAPER_DOMAINS}


@pytest.mark.parametrize(
    ("train_share", "expected"),
    [(0.0, [0.588, 0.548, 0.534, 0.518, 0.510]), (0.5, [0.586, 0.553, 0.530, 0.520, 0.523])],
)
def test_the_median_reaches_its_known_error(
    published: dict[Domain, pd.DataFrame], train_share: float, expected: list[float]
) -> None:
    errors = []
    for domain, raw in published.items():
        _, windows, _ = cut(raw, domain, RULES, UserSampling(train_share=train_share, seen=domain.seen))
        errors.append(median_errors(windows[windows["split"] == "eval"]))
    assert np.mean(errors, axis=0) == pytest.approx(expected, abs=0.02)


def test_every_published_user_is_accounted_for(published: dict[Domain, pd.DataFrame]) -> None:
    done = {
        domain.name: cut(raw, domain, RULES, UserSampling(seen=domain.seen))
        for domain, raw in published.items()
    }
    by_domain = {name: counts for name, (_, _, counts) in done.items()}
    assert {name: reasons(rejected) for name, (rejected, _, _) in done.items() if len(rejected)} == {
        "recipe": {"outside_scale": 1452, "too_few_windows": 1, "no_first_window": 41},
        "book": {"empty_title": 9},
        "local_business": {"unequal_lengths": 4},
    }
    assert {name: (one.used.users, one.rejected.users) for name, one in by_domain.items()} == {
        "recipe": (1257, 2),
        "book": (610, 0),
        "clothing": (488, 0),
        "local_business": (570, 0),
        "movies_tv": (1615, 0),
        "movielens": (708, 0),
        "arts_crafts_sewing": (59, 0),
        "automotive": (92, 0),
        "sports_outdoors": (128, 0),
        "grocery": (184, 0),
    }
    assert by_domain["recipe"].train_users == 1000
    assert by_domain["grocery"].train_users == 0
