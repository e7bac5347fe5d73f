"""Guesses about somebody's own ratings, on the columns of published logs and on such as nobody can guess."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeper_assets.method.domains import PAPER_DOMAINS, Scale
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.guessing import (
    Guessed,
    guess_columns,
    guess_item_type,
    guess_name,
)
from deeper_assets.sources.looking import Look, Place, looked_at
from deeper_assets.sources.scales import flag, guess_scale

VALUES = {
    "user": [f"u{row % 7}" for row in range(40)],
    "item": [f"B00{row % 13}" for row in range(40)],
    "number": [str(row % 13) for row in range(40)],
    "mark": [str(1 + row % 5) for row in range(40)],
    "title": [f"The Tale of Dragon {row % 13}" for row in range(40)],
    "head": [f"I liked it {row}" for row in range(40)],
    "epoch": [str(1_500_000_000 + 999 * row) for row in range(40)],
    "date": [f"2024-02-{1 + row % 28:02}" for row in range(40)],
    "odd date": [f"{1 + row % 12:02} 3, 2018" for row in range(40)],
    "row": [str(row) for row in range(40)],
    "split": ["train" if row % 7 < 4 else "Eval" for row in range(40)],
    "fold": [("train", "test")[row % 2] for row in range(40)],
    "german date": [f"{1 + row % 28:02}.12.2017 10:00" for row in range(40)],
    "american date": [f"12/{24 - row % 12}/2017" for row in range(40)],
    "true": ["true"] * 40,
    "genres": ["Drama|Horror"] * 40,
    "amount": [str(100 + 37 * row % 900) for row in range(40)],
}
"""What a column may hold: 40 rows of 7 users and 13 items."""


@contextmanager
def look(folder: Path, **columns: str) -> Iterator[Look]:
    """A look at a CSV with these columns: name → key of VALUES."""
    rows = [columns, *({n: VALUES[of][row] for n, of in columns.items()} for row in range(40))]
    rows[0] = {name: name for name in columns}
    text = "".join(",".join(f'"{value}"' for value in row.values()) + "\n" for row in rows)
    (folder / "ratings.csv").write_text(text)
    with looked_at(Place(file=folder / "ratings.csv")) as look:
        yield look


def guessed(folder: Path, flags: dict[str, str] | None = None, /, **columns: str) -> Guessed:
    with look(folder, **columns) as seen:
        return guess_columns(seen, flags or {})


MOVIELENS = {"userId": "number", "movieId": "item", "rating": "mark", "timestamp": "epoch"}
AMAZON_2018 = {
    **{"overall": "mark", "vote": "number", "verified": "true", "reviewTime": "odd date"},
    **{"reviewerID": "user", "asin": "item", "reviewerName": "title", "reviewText": "head"},
    **{"summary": "head", "unixReviewTime": "epoch"},
}
AMAZON_2023 = {
    **{"rating": "mark", "title": "head", "text": "head", "asin": "item", "parent_asin": "item"},
    **{"user_id": "user", "timestamp": "epoch", "helpful_vote": "number", "verified_purchase": "true"},
}
GOOGLE_2021 = {"user_id": "user", "name": "head", "time": "epoch", "rating": "mark", "gmap_id": "item"}
FOOD = {"user_id": "user", "recipe_id": "number", "date": "date", "rating": "mark", "review": "head"}
PODCASTS = {
    **{"id": "row", "user_id": "user", "episode_id": "item", "episode_title": "title", "stars": "mark"},
    **{"rated_at": "date", "updated_at": "date", "split": "split", "genres": "genres"},
}


@pytest.mark.parametrize(
    ("columns", "meant"),
    [
        (MOVIELENS, {"user": "userId", "item": "movieId", "rating": "rating", "time": "timestamp"}),
        (
            AMAZON_2018,
            {"user": "reviewerID", "item": "asin", "rating": "overall", "time": "unixReviewTime"},
        ),
        (
            AMAZON_2023,
            {"user": "user_id", "item": "parent_asin", "rating": "rating", "time": "timestamp"},
        ),
        (GOOGLE_2021, {"user": "user_id", "item": "gmap_id", "rating": "rating", "time": "time"}),
        (FOOD, {"user": "user_id", "item": "recipe_id", "rating": "rating", "time": "date"}),
        (
            PODCASTS,
            {
                **{"user": "user_id", "item": "episode_id", "rating": "stars", "title": "episode_title"},
                **{"time": "rated_at", "split": "split", "categories": "genres"},
            },
        ),
        (
            {"customer": "user", "book": "title", "score": "mark", "seq": "row"},
            {"user": "customer", "item": "book", "rating": "score", "order": "seq"},
        ),
        (
            {"userid": "user", "trackid": "item", "Rating": "mark"},
            {"user": "userid", "item": "trackid", "rating": "Rating"},
        ),
    ],
    ids=["movielens", "amazon 2018", "amazon 2023", "google 2021", "food", "podcasts", "words", "glued"],
)
def test_columns_of_logs_are_known(tmp_path: Path, columns: dict[str, str], meant: dict[str, str]) -> None:
    found = guessed(tmp_path, **columns)
    assert found.columns == meant
    assert found.unsure == {}


def test_the_title_of_a_review_is_no_title_of_an_item(tmp_path: Path) -> None:
    found = guessed(tmp_path, **AMAZON_2023)
    assert found.notes == [
        "title differs in 100% of the items with several rows, so it is taken for the title of a review and "
        "not of an item; if it is the item's: --title title",
        "no column looks like a title, so prompts call an item by its parent_asin ('B000'); where titles"
        " stand in another file, a query can join them",
    ]
    assert guessed(tmp_path, {"title": "title"}, **AMAZON_2023).columns["title"] == "title"


def test_flags_overrule_every_guess(tmp_path: Path) -> None:
    flags = {"user": "id", "item": "episode_title", "rating": "user_id", "title": "stars", "time": "none"}
    found = guessed(tmp_path, {**flags, "split": "none", "categories": "split"}, **PODCASTS)
    assert found.columns == {
        **{"user": "id", "item": "episode_title", "rating": "user_id", "title": "stars"},
        **{"categories": "split"},
    }
    with pytest.raises(DeeperError, match=r"has no column 'star'; did you mean 'stars'\? \(--rating\)"):
        guessed(tmp_path, {"rating": "star"}, **PODCASTS)


def test_a_guess_by_contents_alone_says_so(tmp_path: Path) -> None:
    found = guessed(tmp_path, user="user", item="item", x="mark", y="date")
    assert (found.columns["rating"], found.columns["time"]) == ("x", "y")
    assert found.unsure == {
        "rating": "its name does not say so, what it holds does; otherwise --rating COLUMN",
        "time": "its name does not say so, what it holds does; otherwise --time COLUMN",
    }
    found = guessed(tmp_path, user_id="user", reviewer_id="user", item="item", rating="mark")
    assert found.unsure == {"user": "it may as well be reviewer_id: --user COLUMN"}


def test_what_cannot_be_guessed_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DeeperError) as refused:
        guessed(tmp_path, a="user", b="item", grams="amount")
    assert str(refused.value) == (
        "no column of ratings.csv looks like the user or the item or the rating; say which it is with --user"
        " COLUMN and --item COLUMN and --rating COLUMN (where nobody rated: --amount COLUMN, or --marks"
        " domain if each row counts one; of a log of events: --text COLUMN). Its columns, with"
        " values: a (u0, u1, u2, …), b (B000, B001, B002,"
        " …), grams (100, 137, 174, …)"
    )
    with pytest.raises(
        DeeperError, match=r"Its first line seems to be a rating, not a header \(B09, 4\.0, 137\)"
    ):
        guessed(tmp_path, **{"A3X": "user", "B09": "item", "4.0": "mark", "137": "epoch"})


def test_without_ratings_there_are_amounts(tmp_path: Path) -> None:
    found = guessed(tmp_path, user_id="user", track_id="item", play_count="mark", ts="epoch")
    assert found.columns == {"user": "user_id", "item": "track_id", "amount": "play_count", "time": "ts"}
    found = guessed(tmp_path, {"rating": "none"}, user_id="user", track_id="item", rating="mark")
    assert found.columns == {"user": "user_id", "item": "track_id"}
    with pytest.raises(DeeperError, match=r"looks like the rating; .* or --marks domain if each row counts"):
        guessed(tmp_path, user_id="user", track_id="item")


def test_what_is_missing_is_noted(tmp_path: Path) -> None:
    found = guessed(tmp_path, user="user", item="item", rating="mark", fold="fold")
    assert found.notes[1:] == [
        "no column looks like a time or an order: the order of the rows counts",
        "fold holds test, train: a split says train or eval, so it is not used; a query can rename them",
    ]


@pytest.mark.parametrize(
    ("name", "holds", "example", "form"),
    [
        ("rated_at", "german date", "01.12.2017 10:00", "%d.%m.%Y %H:%M"),
        ("Timestamp", "american date", "12/24/2017", "%m/%d/%Y"),
    ],
)
def test_a_time_that_is_not_read_as_one_is_said(
    tmp_path: Path, name: str, holds: str, example: str, form: str
) -> None:
    columns = {"user": "user", "item": "title", "rating": "mark", name: holds}
    said = (
        f"{name} holds '{example}', which is not read as a time: expected is 2017-12-24 10:00:00, or"
        f' seconds since 1970; a query can convert it: "SELECT * REPLACE (strptime({name},'
        f" '{form}') AS {name}) FROM 'FILE'\""
    )
    found = guessed(tmp_path, **columns)
    assert found.notes == ["no column looks like a time or an order: the order of the rows counts", said]
    found = guessed(tmp_path, {"time": name}, **columns)
    assert (found.columns["time"], found.unsure, found.notes) == (name, {"time": said}, [])
    assert guessed(tmp_path, {"time": "none"}, **columns).notes == []


def test_a_first_line_that_is_a_rating_is_noted(tmp_path: Path) -> None:
    flags = {"user": "u3", "item": "B0015", "rating": "5"}
    found = guessed(tmp_path, flags, **{"u3": "user", "B0015": "item", "5": "mark", "x": "genres"})
    assert found.notes[0] == (
        "Its first line seems to be a rating, not a header (u3, B0015, 5); a query can name the columns:"
        " \"SELECT column0 AS user, … FROM read_csv('FILE', header = false)\""
    )
    unsuspected = guessed(tmp_path, user="user", item2="title", rating="mark", time="epoch")
    assert not any("first line" in note for note in unsuspected.notes)


def test_a_column_that_is_taken_twice_is_noted(tmp_path: Path) -> None:
    found = guessed(tmp_path, {"user": "x", "item": "x"}, x="user", rating="mark", time="epoch")
    assert "the column x is taken for the user and for the item" in found.notes


# ------------------------------------------------------------------------------------------------ the scale


@pytest.mark.parametrize(
    ("marks", "scale", "doubts"),
    [
        ([1, 2, 3, 4, 5], Scale(1, 5, 1), []),
        ([0.5, 3, 5], Scale(0.5, 5, 0.5), []),
        ([0, 1], Scale(0, 1, 1), []),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], Scale(0, 10, 1), []),
        (
            [0, 1, 4, 5],
            Scale(1, 5, 1),
            ["10 ratings are 0, taken to mean that none was given; if it is a mark: --scale 0:5:1"],
        ),
        (
            [2, 3, 5],
            Scale(2, 5, 1),
            [
                "it is read from the marks that occur; the usual scale from 1 to 5 in steps of 1 holds them "
                "too: --scale 1:5:1"
            ],
        ),
        ([1, 1.25, 9], Scale(1, 9, 0.25), ["it is read from the marks that occur"]),
    ],
)
def test_the_scale_of_the_marks_that_occur(marks: list[float], scale: Scale, doubts: list[str]) -> None:
    found = guess_scale(dict.fromkeys(marks, 10))
    assert (found.scale, found.doubts) == (scale, doubts)


def test_rare_marks_are_off_the_scale() -> None:
    found = guess_scale({1: 4000, 2: 3000, 3: 2000, 4: 900, 5: 700, 55: 2, -1: 1, 2.5: 9})
    assert found.scale == Scale(1, 5, 1)
    assert found.doubts == ["12 ratings are off it: -1, 2.5, 55"]


@pytest.mark.parametrize(
    ("counts", "scale", "doubts"),
    [
        ({1: 115, 2: 200, 3: 200, 4: 200, 5: 100, 9: 1}, Scale(1, 5, 1), ["1 rating is off it: 9"]),
        ({1: 114, 2: 200, 3: 200, 4: 200, 5: 100, 10: 2}, Scale(1, 5, 1), ["2 ratings are off it: 10"]),
        ({1: 114, 2: 200, 3: 200, 4: 200, 5: 100, 3.7: 1}, Scale(1, 5, 1), ["1 rating is off it: 3.7"]),
        ({1: 1, 2: 200, 3: 200, 4: 200, 5: 100}, Scale(1, 5, 1), []),
        ({1: 3, 2: 4, 3: 5, 4: 4, 5: 3}, Scale(1, 5, 1), []),
    ],
)
def test_a_slip_does_not_set_the_scale_of_a_small_log(
    counts: dict[float, int], scale: Scale, doubts: list[str]
) -> None:
    found = guess_scale(counts)
    assert (found.scale, found.doubts) == (scale, doubts)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({1.0: 9}, r"no two marks that are frequent \(1\), so no scale can be guessed; say it with --scale"),
        ({}, r"no two marks that are frequent \(none\)"),
        ({i / 7: 1 for i in range(300)}, "300 different values from 0 to 42.7143, too many for the marks"),
    ],
)
def test_what_is_no_scale(counts: dict[float, int], message: str) -> None:
    with pytest.raises(DeeperError, match=message):
        guess_scale(counts)


@given(st.integers(-20, 20), st.sampled_from([0.1, 0.25, 0.5, 1, 2, 10]), st.integers(2, 60))
def test_a_scale_all_of_whose_marks_occur_is_found(lowest: int, step: float, marks: int) -> None:
    every = [round(lowest + number * step, 6) for number in range(marks)]
    found = guess_scale(dict.fromkeys(every, 7)).scale
    if 0 not in every:
        assert (found.lowest, found.highest, found.step) == (every[0], every[-1], step)
    assert all(found.holds(mark) for mark in every if mark != 0)
    assert Scale(*map(float, flag(found).split(":"))) == found


# -------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("item", "title", "place", "item_type", "by"),
    [
        ("movieId", "title", "ratings", "movie", "the column movieId"),
        ("episode_id", None, "ratings", "episode", "the column episode_id"),
        ("asin", None, "AMAZON_FASHION_5", "product", "the column asin"),
        ("item_id", "book_title", "ratings", "book", "the column book_title"),
        ("item_id", "title", "podcast_ratings", "podcast", "the name podcast_ratings"),
        ("item", None, "movies", "movie", "the name movies"),
        ("iid", None, "berries", "berry", "the name berries"),
        ("item", None, "ratings", "item", "nothing"),
    ],
)
def test_what_one_item_is_called(item: str, title: str | None, place: str, item_type: str, by: str) -> None:
    assert guess_item_type(item, title, place) == (item_type, by)


def test_the_name_of_a_domain() -> None:
    taken = ["all", *(domain.name for domain in PAPER_DOMAINS)]
    assert guess_name("episode", "my-podcast.ratings", taken) == "podcast"
    assert guess_name("podcast episode", "ratings", taken) == "podcast_episode"
    assert guess_name("book", "ratings", taken) == "own_book"
    assert guess_name("книга", "оценки", taken) == "own"
