"""Windows of MovieLens and of an Amazon category of 2018 by pandas, without what was rejected and why."""

import ast
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd


def movielens(folder: Path, users_a_split: int) -> pd.DataFrame:
    """The windows of `ratings.csv` and `movies.csv`."""
    ratings = pd.read_csv(folder / "ratings.csv")
    ratings.columns = pd.Index(["user_id", "item_id", "rating", "time"])
    movies = pd.read_csv(folder / "movies.csv")
    titles = movies.set_index("movieId")["title"].str.split().str.join(" ")
    return _windows(ratings, titles, "movielens", 0.5, users_a_split)


def amazon_2018(folder: Path, users_a_split: int) -> pd.DataFrame:
    """The windows of `Movies_and_TV.json.gz` and `meta_Movies_and_TV.json.gz`."""
    fields = ("reviewerID", "asin", "overall", "unixReviewTime")
    rows = ([review.get(field) for field in fields] for review in _objects(folder / "Movies_and_TV.json.gz"))
    ratings = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "time"])
    products = _objects(folder / "meta_Movies_and_TV.json.gz")
    titles = pd.Series({product["asin"]: " ".join(product["title"].split()) for product in products})
    return _windows(ratings, titles, "movies_tv", 1, users_a_split)


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                try:
                    yield ast.literal_eval(line)
                except SyntaxError:
                    continue


def _windows(
    ratings: pd.DataFrame, titles: "pd.Series[str]", domain: str, step: float, users_a_split: int
) -> pd.DataFrame:
    """Windows from `ratings` (user_id, item_id, rating, time in seconds) and titles by item."""
    ratings["rated_at"] = pd.to_datetime(ratings.pop("time"), unit="s")
    ratings = ratings.drop_duplicates()
    ratings = ratings.sort_values(["user_id", "rated_at"], kind="stable")
    position = ratings.groupby("user_id").cumcount()
    ratings["window"], ratings["place"] = position // 10, position % 10
    ratings["title"] = ratings["item_id"].map(titles)
    # Ratings without a usable title or mark leave a hole in their window; incomplete windows are none.
    ratings = ratings[ratings["window"] < 7]
    ratings = ratings[ratings.groupby(["user_id", "window"])["place"].transform("size") == 10]
    ratings = ratings[ratings["rating"].between(step, 5) & (ratings["rating"] % step == 0)]
    ratings = ratings[ratings["title"].str.len().between(1, 1000)]
    of_users = ratings.groupby("user_id")["window"].agg(["nunique", "min"])
    users = of_users.index[(of_users["nunique"] >= 5) & (of_users["min"] == 0)]
    hashes = pd.Series(
        [hashlib.sha256(f'["0", "{domain}", "{user}"]'.encode()).hexdigest() for user in users], index=users
    )
    train = hashes[hashes < "8"].sort_values().index[:users_a_split]
    evaluated = hashes[hashes >= "8"].sort_values().index[:users_a_split]
    split = pd.Series("train", index=train).reindex(train.union(evaluated), fill_value="eval")
    windows = ratings[ratings["user_id"].isin(split.index)]
    return windows.assign(split=windows["user_id"].map(split)).astype({"user_id": str, "item_id": str})
