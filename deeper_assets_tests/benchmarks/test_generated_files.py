"""The generated files, read without any reader of this project's."""

import ast
import csv
import gzip
import json
from collections import Counter
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from deeper_assets.method.domains import find_domain
from deeper_assets.sources.originals import find_original
from deeper_assets_tests.benchmarks.generated_files import (
    FORMATS,
    amazon,
    food,
    google_local,
    movielens,
    write,
)
from deeper_assets_tests.sources.reading import cut_source

ROWS = 40_000


@pytest.fixture(scope="module", params=sorted(FORMATS))
def any_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def lines(path: Path) -> list[bytes]:
    return gzip.decompress(path.read_bytes()).splitlines(keepends=True)


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(path)]


def share(part: int, whole: int, expected: float, far: float = 0.2) -> None:
    """`part` is the `expected` share of `whole`, but for this much of it."""
    assert part / whole == pytest.approx(expected, rel=far)


def copies_of(keys: list[tuple[Any, ...]]) -> Counter[int]:
    """How many keys stand there how often."""
    return Counter(Counter(keys).values())


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(any_format: str, tmp_path: Path) -> None:
    for folder, seed in (("one", 5), ("same", 5), ("other", 6)):
        write(any_format, 3_000, tmp_path / folder, seed)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 2, "nothing but the two files is left"
    for name in files:
        one, same, other = ((tmp_path / folder / name).read_bytes() for folder in ("one", "same", "other"))
        assert one == same
        assert one != other


def test_this_project_reads_every_format(any_format: str, tmp_path: Path) -> None:
    domain, reasons = {
        "movielens": ("movielens", set()),
        "amazon_2018": ("movies_tv", {"duplicate_row", "empty_title"}),
        "amazon_2023": ("movies_tv", {"duplicate_row", "empty_title"}),
        "google_local": ("local_business", {"duplicate_row", "not_a_number"}),
        "food": ("recipe", {"duplicate_row", "outside_scale"}),
    }[any_format]
    write(any_format, 20_000, tmp_path / "files")
    source = find_original(find_domain(domain), tmp_path / "files")
    assert source is not None
    cut = cut_source(source, tmp_path)
    assert cut.accounting.adds_up
    assert cut.accounting.read.ratings == 20_000
    assert len(cut.windows) > 500
    assert set(cut.rejected["reason"]) - {"malformed_line", "unusable_text"} == {"too_few_windows", *reasons}


def test_movielens(tmp_path: Path) -> None:
    write("movielens", ROWS, tmp_path)
    for name in ("ratings.csv", "movies.csv"):
        content = (tmp_path / name).read_bytes()
        assert content.count(b"\n") == content.count(b"\r\n")
        assert content.endswith(b"\r\n")
    with (tmp_path / "ratings.csv").open(newline="") as file:
        ratings = list(csv.DictReader(file))
    assert list(ratings[0]) == ["userId", "movieId", "rating", "timestamp"]
    assert len(ratings) == ROWS
    users = [(user, list(rows)) for user, rows in groupby(ratings, key=lambda row: row["userId"])]
    assert [user for user, _ in users] == [str(number) for number in range(1, len(users) + 1)]
    for _, rows in users:
        movies = [int(row["movieId"]) for row in rows]
        assert movies == sorted(set(movies))
    sizes = [len(rows) for _, rows in users[:-1]]  # the last user's may be cut off
    assert min(sizes) >= movielens.FEWEST
    assert max(sizes) <= movielens.MOST
    assert sorted(sizes)[len(sizes) // 2] == pytest.approx(70, rel=0.4)
    marks = Counter(row["rating"] for row in ratings)
    assert set(marks) == {mark for mark, _ in movielens.SHARES}
    share(marks["4.0"], ROWS, 0.266, far=0.05)
    assert all(8e8 < int(row["timestamp"]) < 2e9 for row in ratings)
    seconds = Counter((row["userId"], row["timestamp"]) for row in ratings)
    share(sum(number for number in seconds.values() if number > 1), ROWS, 0.23, far=0.5)

    with (tmp_path / "movies.csv").open(newline="") as file:
        movies_of_file = list(csv.DictReader(file))
    titles = [row["title"] for row in movies_of_file]
    assert [row["movieId"] for row in movies_of_file] == [str(n) for n in range(1, movielens.MOVIES + 1)]
    share(sum(", The" in title for title in titles), len(titles), movielens.WITH_COMMA)
    assert sum('"The Return"' in title for title in titles) > 10
    assert sum(not title.endswith(")") for title in titles) > 10
    assert 5 <= len(titles) - len(set(titles)) <= 40


def test_amazon_2018(tmp_path: Path) -> None:
    write("amazon_2018", ROWS, tmp_path)
    given = lines(tmp_path / f"{amazon.CATEGORY}.json.gz")
    assert len(given) == ROWS
    share(sum(map(len, given)), ROWS, 445, far=0.1)
    reviews, literals, broken = [], 0, 0
    for line in given:
        try:
            reviews.append(json.loads(line))
        except ValueError:
            try:
                assert set(ast.literal_eval(line.decode())) >= {"reviewerID", "asin", "overall"}
                literals += 1
            except SyntaxError:
                broken += 1
    share(literals, ROWS, amazon.PYTHON_LITERALS, far=0.6)
    assert broken <= 5
    assert all(review["unixReviewTime"] % 86_400 == 0 for review in reviews)
    same = copies_of([(r["reviewerID"], r["asin"], r["overall"], r["unixReviewTime"]) for r in reviews])
    share(same[2], same.total(), 77 / 3_068)
    assert same[3] + same[4] + same[5] > 10
    styled = [r for r in reviews if "style" in r]
    share(len(styled), len(reviews), amazon.WITH_STYLE, far=0.02)
    assert copies_of([(r["reviewerID"], r["asin"], r["unixReviewTime"], str(r["style"])) for r in styled])[
        1
    ] > (0.99 * len(styled)), "copies differ in their style"
    share(sum("reviewText" not in r for r in reviews), len(reviews), amazon.WITHOUT_TEXT, far=0.4)
    of_users = Counter(r["reviewerID"] for r in reviews)
    share(sum(number <= 2 for number in of_users.values()), len(of_users), 0.8, far=0.1)
    assert max(of_users.values()) >= 50
    products = [asin for asin, _ in groupby(r["asin"] for r in reviews)]
    assert len(products) == len(set(products)), "the lines stand by product"

    meta = objects(tmp_path / f"meta_{amazon.CATEGORY}.json.gz")
    twice = copies_of([(row["asin"],) for row in meta])
    assert set(twice) == {1, 2}
    assert 0 < len(set(products) - {row["asin"] for row in meta}) < 0.05 * len(products)
    assert any("getTime" in row["title"] and len(row["title"]) > 1_000 for row in meta)


def test_broken_lines_of_amazon_2018(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amazon, "BROKEN", 0.1)
    write("amazon_2018", 1_000, tmp_path)
    given = lines(tmp_path / f"{amazon.CATEGORY}.json.gz")
    broken = [line for line in given if not line.endswith(b"}\n")]
    share(len(broken), 1_000, 0.1, far=0.5)
    assert {len(line.decode().strip("\n")) for line in broken} == {150}


def test_amazon_2023(tmp_path: Path) -> None:
    write("amazon_2023", ROWS, tmp_path)
    reviews = objects(tmp_path / f"{amazon.CATEGORY}.jsonl.gz")
    assert len(reviews) == ROWS
    users = [user for user, _ in groupby(row["user_id"] for row in reviews)]
    assert len(users) == len(set(users)), "the lines stand by user"
    assert all(1.0e12 < row["timestamp"] < 2e12 for row in reviews)
    assert {row["rating"] for row in reviews} == {1.0, 2.0, 3.0, 4.0, 5.0}
    same = copies_of([tuple(map(str, row.values())) for row in reviews])
    assert set(same) == {1, 2}
    share(same[2], same.total(), amazon.SAME_LINE)
    share(sum(row["asin"] != row["parent_asin"] for row in reviews), ROWS, 0.75)
    parents = {row["parent_asin"] for row in objects(tmp_path / f"meta_{amazon.CATEGORY}.jsonl.gz")}
    of_products = {row["parent_asin"] for row in reviews}
    share(len(of_products & parents), len(of_products), 1 - amazon.META_MISSING, far=0.02)


def test_google_local(tmp_path: Path) -> None:
    write("google_local", ROWS, tmp_path)
    reviews = objects(tmp_path / "review-New_York_10.json.gz")
    assert len(reviews) == ROWS
    places = [place for place, _ in groupby(row["gmap_id"] for row in reviews)]
    assert len(places) == len(set(places)), "the lines stand by place"
    of_users = Counter(row["user_id"] for row in reviews)
    assert {len(user) for user in of_users} == {21}
    few = sum(number < google_local.FEWEST for number in of_users.values())
    assert few <= 0.05 * len(of_users), "cut off with the last lines"
    assert all(1.4e12 < row["time"] < 1.7e12 for row in reviews)
    share(sum(row["rating"] is None for row in reviews), ROWS, 0.01)
    share(sum(row["text"] is None for row in reviews), ROWS, google_local.WITHOUT_TEXT, far=0.05)
    same = copies_of([tuple(map(str, row.values())) for row in reviews])
    share(same[2], same.total(), google_local.SAME_LINE)
    meta = objects(tmp_path / "meta-New_York.json.gz")
    assert {row["gmap_id"] for row in meta} >= set(places)
    assert all(row["address"] for row in meta)


def test_food(tmp_path: Path) -> None:
    write("food", ROWS, tmp_path)
    content = (tmp_path / "RAW_interactions.csv").read_bytes()
    with (tmp_path / "RAW_interactions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == ROWS
    assert content.count(b"\n") > ROWS + 1 + 1_000
    assert sum("\r\n" in row["review"] for row in rows) > 1_000
    share(sum('said "more!"' in row["review"] for row in rows), ROWS, food.WITH_QUOTES)
    assert {row["rating"] for row in rows} == set("012345")
    share(sum(row["rating"] == "0" for row in rows), ROWS, 0.054)
    assert all(date.fromisoformat(row["date"]).year >= 2000 for row in rows)
    recipes = [recipe for recipe, _ in groupby(row["recipe_id"] for row in rows)]
    assert recipes == sorted(set(recipes), key=int), "the lines stand by recipe"
    with (tmp_path / "RAW_recipes.csv").open(newline="") as file:
        meta = list(csv.DictReader(file))
    assert {row["id"] for row in meta} >= set(recipes)
    assert all(isinstance(ast.literal_eval(row["tags"]), list) for row in meta)
    assert any("\n" in row["description"] for row in meta)
