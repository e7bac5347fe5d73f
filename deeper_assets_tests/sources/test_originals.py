import csv
import datetime as dt
import gzip
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deeper_assets.method.domains import PAPER_DOMAINS, Domain, find_domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.originals import ORIGINALS, FormatName, OriginalSource, find_original
from deeper_assets_tests.sources.reading import cut_source, picked, real_data, written

CLOTHING, FILMS = find_domain("clothing"), find_domain("movielens")
PLACES, RECIPES = find_domain("local_business"), find_domain("recipe")


def put(path: Path, lines: list[object], end: str = "\n") -> Path:
    """A file of these lines, packed where its name says so; what is no text is written as JSON."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    content = "".join(text + end for text in texts).encode("utf-8", "surrogateescape")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def read(domain: Domain, written_as: FormatName, path: Path) -> list[dict[str, Any]]:
    return written(OriginalSource(domain, written_as, path), path.parent)[0]


@pytest.mark.parametrize(
    ("ratings", "movies", "times"),
    [
        ("ratings.csv", "movies.csv", ("964982703", "964981247")),
        ("rating.csv", "movie.csv", ("2000-07-30 18:45:03", "2000-07-30 18:20:47")),
        ("ratings.csv.gz", "movies.csv.gz", ("964982703", "964981247")),
    ],
)
def test_movielens(tmp_path: Path, ratings: str, movies: str, times: tuple[str, str]) -> None:
    first, second = times
    lines: list[object] = ["userId,movieId,rating,timestamp", f"1,1,4.0,{first}", f"1,3,3.5,{second}"]
    lines += [f"1,2,0.0,{first}", "1,4", f"1,9,4.0,{first}", f"1,3,3.5,{second}"]
    path = put(tmp_path / ratings, lines, end="\r\n")
    items: list[object] = ["movieId,title,genres", "1,Toy Story (1995),Adventure|Animation|Children"]
    items += ['2,"American President, The (1995)",(no genres listed)', "3,Amelie &amp; Co,Comedy"]
    put(tmp_path / movies, items, end="\r\n")
    rows = read(FILMS, "movielens", path)
    assert picked(
        rows, "line", "user_id", "item_id", "title", "categories", "rating", "position", "defect"
    ) == [
        (2, "1", "1", "Toy Story (1995)", "Adventure, Animation, Children", 4.0, 1, None),
        (3, "1", "3", "Amelie & Co", "Comedy", 3.5, 0, None),
        (4, "1", "2", "American President, The (1995)", None, 0.0, 2, None),
        (5, None, None, None, None, None, None, "malformed_line"),
        (6, "1", "9", None, None, 4.0, 3, None),
        (7, "1", "3", "Amelie & Co", "Comedy", 3.5, None, "duplicate_row"),
    ]
    assert rows[0]["rated_at"] == dt.datetime(2000, 7, 30, 18, 45, 3)
    assert {row["file"] for row in rows} == {ratings}


def review_2018(user: str, item: str, rating: float, time: int, **more: object) -> dict[str, object]:
    return {"overall": rating, "reviewerID": user, "asin": item, "unixReviewTime": time, **more}


@pytest.mark.parametrize(
    ("reviews", "meta"),
    [
        ("Books_5.json.gz", "meta_Books.json.gz"),
        ("Books.json.gz", "meta_Books.json"),
        ("Books.json", "meta_Books.json.gz"),
    ],
)
def test_amazon_2018(tmp_path: Path, reviews: str, meta: str) -> None:
    styled = review_2018("A1", "B1", 5.0, 1441324800, style={"Size:": " Big Boys"}, reviewText="Great")
    literal = "{'reviewerID': 'A1', 'asin': 'B2', 'overall': 4.0, 'unixReviewTime': 1441324700, 'x': None}"
    path = put(
        tmp_path / reviews,
        [
            styled,
            {**styled, "style": {"Size:": " Small"}},
            literal,
            "",
            '{"reviewerID": "A1", "asin": "B3", "over',
            review_2018("", "B3", 3.0, 1441324900),
            review_2018("A2", "B3", 3.0, 1441324900),
            review_2018("A2", "B9", 3.0, 1441324900),
        ],
    )
    put(
        tmp_path / meta,
        [
            {
                "asin": "B1",
                "title": "Men&#39;s  Socks",
                "category": ["Clothing, Shoes &amp; Jewelry", "Men", "Men"],
            },
            "{'asin': 'B2', 'title': \"Boys' Shirt\", "
            "'categories': [['Clothing', 'Boys'], ['Clothing', \"Kid's\"]]}",
            {"asin": "B3", "title": "Hat", "category": []},
            {"asin": "B3", "title": "A hat", "category": [f"c{n}" for n in range(99)]},
        ],
    )
    rows = read(CLOTHING, "amazon", path)
    assert picked(rows, "line", "user_id", "item_id", "title", "categories", "rating", "defect") == [
        (1, "A1", "B1", "Men's Socks", "Clothing, Shoes & Jewelry, Men", 5.0, None),
        (2, "A1", "B1", "Men's Socks", "Clothing, Shoes & Jewelry, Men", 5.0, "duplicate_row"),
        (3, "A1", "B2", "Boys' Shirt", "Clothing, Boys, Kid's", 4.0, None),
        (5, None, None, None, None, None, "malformed_line"),
        (6, None, "B3", "A hat", "c0, c1, c2, c3, c4, c5, c6, c7, c8, c9", 3.0, "missing_user"),
        (7, "A2", "B3", "A hat", "c0, c1, c2, c3, c4, c5, c6, c7, c8, c9", 3.0, None),
        (8, "A2", "B9", None, None, 3.0, None),
    ]
    assert rows[0]["rated_at"] == dt.datetime(2015, 9, 4)
    assert rows[3]["detail"].startswith("It is not JSON: Unterminated string")


def test_amazon_2023(tmp_path: Path) -> None:
    review = {
        "rating": 5.0,
        "title": "Such a lovely scent",
        "asin": "B00Y",
        "parent_asin": "B00X",
        "user_id": "AG",
    }
    path = put(tmp_path / "All_Beauty.jsonl.gz", [{**review, "timestamp": 1588687728923}])
    meta = {
        "main_category": "All Beauty",
        "title": "A scent",
        "parent_asin": "B00X",
        "categories": ["Beauty", "Scents"],
    }
    put(tmp_path / "meta_All_Beauty.jsonl.gz", [meta, "{"])
    (row,) = read(CLOTHING, "amazon", path)
    assert (row["user_id"], row["item_id"], row["title"], row["categories"]) == (
        "AG",
        "B00X",
        "A scent",
        "Beauty, Scents",
    )
    assert row["rated_at"] == dt.datetime(2020, 5, 5, 14, 8, 48, 923000)


@pytest.mark.parametrize(
    ("reviews", "meta"),
    [
        ("review-New_York_10.json.gz", "meta-New_York.json.gz"),
        ("review-New_York.json.gz", "meta-New_York.json"),
    ],
)
def test_google_local(tmp_path: Path, reviews: str, meta: str) -> None:
    review = {"user_id": "101463350189962023774", "name": "Jordan", "text": "Cool place", "pics": None}
    places = ["0x1:0x1", "0x2:0x2", "0x3:0x3", "0x4:0x4"]
    path = put(
        tmp_path / reviews,
        [
            {**review, "time": 1627750414677 + n, "rating": 5, "gmap_id": place}
            for n, place in enumerate(places)
        ],
    )
    put(
        tmp_path / meta,
        [
            {
                "name": "Deli",
                "address": "Deli, 1 Main St, NY",
                "gmap_id": "0x1:0x1",
                "category": ["Deli", "Café"],
            },
            {"name": "Zoo", "address": "2 Park Ave, NY", "gmap_id": "0x2:0x2", "category": None},
            {"name": "Bar", "address": None, "gmap_id": "0x3:0x3", "category": ['Bar \\ "Grill"']},
        ],
    )
    rows = read(PLACES, "google_local", path)
    assert picked(rows, "item_id", "title", "categories", "position", "defect") == [
        ("0x1:0x1", "Deli, 1 Main St, NY", "Deli, Café", 0, None),
        ("0x2:0x2", "Zoo, 2 Park Ave, NY", None, 1, None),
        ("0x3:0x3", "Bar", 'Bar \\ "Grill"', 2, None),
        ("0x4:0x4", None, None, 3, None),
    ]
    assert rows[0]["user_id"] == "101463350189962023774"
    assert rows[0]["rated_at"] == dt.datetime(2021, 7, 31, 16, 53, 34, 677000)


def test_food(tmp_path: Path) -> None:
    with (tmp_path / "RAW_interactions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["user_id", "recipe_id", "date", "rating", "review"])
        writer.writerow(
            [38094, 40893, "2003-02-17", 4, 'Great with a salad.\nCooked "on top" of stove, 15 min']
        )
        writer.writerow([38094, 44394, "2003-02-16", 0, ""])
        writer.writerow([38094, 44394, "yesterday", 5, "x"])
    (tmp_path / "RAW_recipes.csv").write_text(
        "name,id,minutes,tags,steps\n"
        'white bean  pepper stew,40893,55,"[\'60-minutes-or-less\', ""chef\'s"", \'stew\']","[\'a, b\']"\n'
        "sugar snap peas,44394,10,[],[]\n"
    )
    rows = read(RECIPES, "food", tmp_path / "RAW_interactions.csv")
    assert picked(rows, "line", "title", "categories", "rating", "position", "defect") == [
        (2, "white bean pepper stew", "60-minutes-or-less, chef's, stew", 4.0, 1, None),
        (4, "sugar snap peas", None, 0.0, 0, None),
        (5, "sugar snap peas", None, 5.0, None, "unreadable_time"),
    ]
    rejected = cut_source(
        OriginalSource(RECIPES, "food", tmp_path / "RAW_interactions.csv"), tmp_path
    ).rejected
    assert rejected.loc[rejected["line"] == 4, ["reason", "detail"]].to_numpy().tolist() == [
        ["outside_scale", "0: no rating given"]
    ]


def test_without_a_file_of_items_the_id_is_the_title(tmp_path: Path) -> None:
    path = put(tmp_path / "Gift_Cards.json", [review_2018("A1", "B1", 5.0, 1441324800)])
    (row,) = read(CLOTHING, "amazon", path)
    assert (row["title"], row["categories"]) == ("B1", None)


def test_lines_of_items_that_cannot_be_read_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(tmp_path / "Books.json", [review_2018("A1", "B1", 5.0, 1441324800)])
    put(tmp_path / "meta_Books.json", [{"asin": "B1", "title": "A book"}, "<html>", "{"])
    with caplog.at_level(logging.WARNING, "deeper_assets"):
        (row,) = read(CLOTHING, "amazon", path)
    assert row["title"] == "A book"
    (told,) = caplog.messages
    assert "meta_Books.json: 2 lines cannot be read; the first, line 2: It is not JSON" in told


def test_a_packed_file_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    reviews = [review_2018(f"A{n * 7919 % 1000}", f"B{n}", 4.0, n) for n in range(5000)]
    path = put(tmp_path / "Books.json.gz", list(reviews))
    path.write_bytes(path.read_bytes()[:-5000])
    rows = read(CLOTHING, "amazon", path)
    assert len(rows) > 3000
    assert Counter(row["defect"] for row in rows) == {None: len(rows) - 1, "malformed_line": 1}
    assert rows[-1]["detail"] == "the file cannot be unpacked from here on: it breaks off before its end"
    done = cut_source(OriginalSource(CLOTHING, "amazon", path), tmp_path)
    assert done.accounting.adds_up
    assert done.accounting.read.ratings == len(rows)


def test_another_file_than_the_format_says(tmp_path: Path) -> None:
    path = put(tmp_path / "ratings.csv", ["user,movieId,rating,timestamp", "1,2,3,4"])
    with pytest.raises(DeeperError, match=r"ratings\.csv has no column userId; it has user, movieId, rating"):
        read(FILMS, "movielens", path)
    path = put(tmp_path / "Books.json", [{"title": "a"}])
    with pytest.raises(
        DeeperError, match=r"Books\.json has no reviewerID or asin .* Is it another kind of file"
    ):
        read(CLOTHING, "amazon", path)
    with pytest.raises(
        DeeperError, match=r"None\.json does not exist; expected the ratings of domain 'clothing'"
    ):
        OriginalSource(CLOTHING, "amazon", tmp_path / "None.json").identity()


def test_identity_names_both_files(tmp_path: Path) -> None:
    path = put(tmp_path / "Books.json", [review_2018("A1", "B1", 5.0, 1441324800)])
    source = OriginalSource(CLOTHING, "amazon", path)
    before = source.identity()
    assert before["files"].keys() == {str(path)}
    meta = put(tmp_path / "meta_Books.json", [{"asin": "B1", "title": "x"}])
    after = source.identity()
    assert after["files"].keys() == {str(path), str(meta)}
    assert {**before, "files": None} == {**after, "files": None} == {**source.settings(), "files": None}
    assert source.files() == [path, meta]


@pytest.mark.parametrize("domain", PAPER_DOMAINS, ids=lambda domain: domain.name)
def test_the_files_of_each_domain_are_looked_for(tmp_path: Path, domain: Domain) -> None:
    assert find_original(domain, tmp_path) is None
    written_as, names = ORIGINALS[domain.name]
    first = put(tmp_path / "here" / "below" / f"{names[0]}.gz", [])
    put(tmp_path / "here" / "below" / "too" / "deep" / names[0], [])
    put(first.with_name("movies.csv"), [])
    assert find_original(domain, tmp_path) == OriginalSource(domain, written_as, first)
    second = put(tmp_path / names[-1], [])
    put(second.with_name("movies.csv"), [])
    with pytest.raises(
        DeeperError, match=f"the ratings of domain '{domain.name}': there are .* and .*; keep one"
    ) as caught:
        find_original(domain, tmp_path)
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


def test_ratings_without_films_beside_them_are_not_taken_for_movielens(tmp_path: Path) -> None:
    put(tmp_path / "ratings.csv", [])
    assert find_original(FILMS, tmp_path) is None


def test_two_files_of_items_are_an_error(tmp_path: Path) -> None:
    for name in ("meta_Books.json", "meta_Books.json.gz"):
        put(tmp_path / name, [])
    with pytest.raises(
        DeeperError, match=r"the items of domain 'clothing': there are .*meta_Books\.json and "
    ):
        OriginalSource(CLOTHING, "amazon", tmp_path / "Books_5.json.gz").files()


def test_real_files_become_windows(tmp_path: Path) -> None:
    films = find_original(FILMS, real_data("raw"))
    assert films is not None
    done = cut_source(films, tmp_path)
    assert done.accounting.adds_up
    assert (done.accounting.read.users, done.accounting.read.ratings) == (610, 100_836)
    assert (done.accounting.used.users, done.accounting.left_over) == (385, 68_132)
    assert set(done.rejected["reason"]) == {"too_few_windows"}
    assert done.windows["title"].str.contains(r"\(\d{4}").mean() > 0.99
    fashion = real_data("raw") / "amazon" / "AMAZON_FASHION_5.json.gz"
    rows, _ = written(OriginalSource(CLOTHING, "amazon", fashion), tmp_path)
    assert Counter(row["defect"] for row in rows) == {None: 3068, "duplicate_row": 108}
