"""Ratings in the files that their publishers give out: MovieLens, Amazon, Google Local and Food.com.

Each has a file of ratings and, beside it, one of items, with titles and categories. `FORMATS` says what the
fields are called; how a rating is judged is the same for every log (`logs`).
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from duckdb import DuckDBPyConnection

from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError
from deeper_assets.sources.csv_files import load_csv, read_header
from deeper_assets.sources.json_lines import load_json_lines
from deeper_assets.sources.logs import make_ratings, typed
from deeper_assets.sources.own_rows import Refresh
from deeper_assets.sources.shape import ReadReport, readable, sha256_of
from deeper_assets.sources.streams import is_packed

LOG = logging.getLogger(__name__)

FormatName = Literal["movielens", "amazon", "google_local", "food"]

MOST_CATEGORIES = 10
"""Categories of an item, at most: Food.com's recipes have up to seventy tags."""


@dataclass(frozen=True)
class Format:
    """How a publisher writes ratings and items.

    Attributes:
        name: pattern of the name of the file of ratings, without its ending.
        items_names: of the file of items, likewise; with `{what}` that the pattern finds.
        fields: those of a rating that are read.
        item_fields: those of an item.
        rating: user, item, rating and time → SQL over the fields.
        item: item, title and categories → SQL over the item's fields.
    """

    name: str
    items_names: tuple[str, ...]
    fields: tuple[str, ...]
    item_fields: tuple[str, ...]
    rating: Mapping[str, str]
    item: Mapping[str, str]


FORMATS: Mapping[FormatName, Format] = {
    # 20M, 25M, 32M, latest (small or not); Kaggle's copy says rating.csv, movie.csv, and dates for times
    "movielens": Format(
        name="ratings?",
        items_names=("movies", "movie"),
        fields=("userId", "movieId", "rating", "timestamp"),
        item_fields=("movieId", "title", "genres"),
        rating={"user": '"userId"', "item": '"movieId"', "rating": "rating", "time": '"timestamp"'},
        item={
            "item": '"movieId"',
            "title": "title",
            "categories": "nullif(joined(string_split(genres, '|')), '(no genres listed)')",
        },
    ),
    # 2018 and before: reviewerID, asin, overall, unixReviewTime, category; 2023: the others, milliseconds
    "amazon": Format(
        name="(?P<what>.+?)(_5)?",
        items_names=("meta_{what}",),
        fields=(
            *("reviewerID", "asin", "overall", "unixReviewTime"),
            *("user_id", "parent_asin", "rating", "timestamp"),
        ),
        item_fields=("asin", "parent_asin", "title", "category", "categories"),
        rating={
            "user": 'coalesce("reviewerID", user_id)',
            "item": "coalesce(parent_asin, asin)",
            "rating": "coalesce(overall, rating)",
            "time": 'coalesce("unixReviewTime", "timestamp")',
        },
        item={
            "item": "coalesce(parent_asin, asin)",
            "title": "title",
            "categories": "joined(texts_in(coalesce(category, categories)))",
        },
    ),
    # 2021, time in milliseconds; an address mostly begins with the name
    "google_local": Format(
        name="review-(?P<what>.+?)(_10)?",
        items_names=("meta-{what}",),
        fields=("user_id", "gmap_id", "rating", "time"),
        item_fields=("gmap_id", "name", "address", "category"),
        rating={"user": "user_id", "item": "gmap_id", "rating": "rating", "time": '"time"'},
        item={
            "item": "gmap_id",
            "title": "CASE WHEN starts_with(address, name) THEN address "
            "ELSE nullif(concat_ws(', ', name, address), '') END",
            "categories": "joined(texts_in(category))",
        },
    ),
    # where 0 means that a review gives no rating; it lies off the scale
    "food": Format(
        name="RAW_interactions",
        items_names=("RAW_recipes",),
        fields=("user_id", "recipe_id", "date", "rating"),
        item_fields=("id", "name", "tags"),
        rating={"user": "user_id", "item": "recipe_id", "rating": "rating", "time": '"date"'},
        item={"item": "id", "title": "name", "categories": "joined(texts_in(tags))"},
    ),
}

LISTS = rf"""
CREATE OR REPLACE TEMP MACRO unquoted(text) AS
    replace(replace(replace(text[2:-2], '\"', '"'), '\''', ''''), '\\', '\');
CREATE OR REPLACE TEMP MACRO texts_in(list) AS list_transform(
    regexp_extract_all(list, '"(?:[^"\\]|\\.)*"|''(?:[^''\\]|\\.)*'''), lambda text: unquoted(text));
CREATE OR REPLACE TEMP MACRO firsts(texts) AS
    list_filter(texts, lambda text, place: text <> '' AND list_position(texts, text) = place);
CREATE OR REPLACE TEMP MACRO joined(texts) AS
    nullif(array_to_string(firsts(texts)[:{MOST_CATEGORIES}], ', '), '');
"""
"""A list of texts, as JSON or Python writes it, nested or not; the first of them, each once, in a line."""


@dataclass(frozen=True)
class OriginalSource:
    """One domain's ratings, as published.

    Attributes:
        domain: whose ratings these are.
        format: how they are written.
        file: the file of ratings, packed by gzip or not. The file of items is looked for beside it. Without
            one, an item's id is its title.
        refresh: see `Refresh`.
    """

    domain: Domain
    format: FormatName
    file: Path
    refresh: Refresh = "changed"

    @property
    def items(self) -> Path | None:
        """The file of items; None where there is none.

        Raises:
            DeeperError: there are two.
        """
        written = FORMATS[self.format]
        stem, ending = _parted(self.file)
        match = re.fullmatch(written.name, stem)
        what = match["what"] if match and "what" in match.groupdict() else stem
        names = [name.format(what=what) + ending for name in written.items_names]
        return only(
            [self.file.with_name(name + packed) for name in names for packed in ("", ".gz")],
            f"the items of domain {self.domain.name!r}",
        )

    def files(self) -> list[Path]:
        """The two files, where they exist."""
        return [path for path in (self.file, self.items) if path is not None and path.exists()]

    def settings(self) -> dict[str, Any]:
        """Kind, domain, format and file."""
        return {
            "kind": "original",
            "domain": self.domain.name,
            "format": self.format,
            "file": str(self.file),
        }

    def identity(self) -> dict[str, Any]:
        """Kind, domain, format, and the hash of each file."""
        readable(self.file, f"the ratings of domain {self.domain.name!r}")
        return {**self.settings(), "files": {str(path): sha256_of(path) for path in self.files()}}

    def identity_since(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """What would be read now; with `manual` whatever was read, as `before` says."""
        if self.refresh == "manual" and before.items() >= self.settings().items():
            return dict(before)
        return self.identity()

    def load(self, connection: DuckDBPyConnection, folder: Path) -> ReadReport:
        """A row a line or record; see `FORMATS`."""
        readable(self.file, f"the ratings of domain {self.domain.name!r}")
        written = FORMATS[self.format]
        if self.items is not None:
            _load_items(connection, folder, self.items, written)
        keep = typed(connection, written.rating)
        _load(connection, folder, self.file, "given", written.fields, keep)
        make_ratings(connection, self.file.name)
        return ReadReport(placed=False)


def _load_items(connection: DuckDBPyConnection, folder: Path, path: Path, written: Format) -> None:
    """Make the view `items`; the log is told of lines that cannot be read, which are no ratings."""
    connection.execute(LISTS)
    _load(connection, folder, path, "items", written.item_fields, written.item)
    ((bad, line, malformed),) = connection.execute(
        "SELECT count(*), min(line), min_by(malformed, line) FROM items WHERE malformed IS NOT NULL"
    ).fetchall()
    if bad:
        LOG.warning("%s: %d lines cannot be read; the first, line %d: %s", path, bad, line, malformed)


def _load(
    connection: DuckDBPyConnection,
    folder: Path,
    path: Path,
    table: str,
    fields: tuple[str, ...],
    keep: Mapping[str, str],
) -> None:
    if _parted(path)[1] != ".csv":
        load_json_lines(connection, folder, path, table, fields, keep)
        return
    names, _ = read_header(path)
    if missing := [field for field in fields if field not in names]:
        raise DeeperError(f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}")
    load_csv(connection, folder, path, table, keep)


def _parted(path: Path) -> tuple[str, str]:
    """A file's name without its endings, and its ending without `.gz`."""
    bare = Path(path.stem if is_packed(path) else path.name)
    return bare.stem, bare.suffix


def only(paths: list[Path], what: str) -> Path | None:
    """The one of `paths` that exists; None where none does.

    Raises:
        DeeperError: several exist; the message says of `what`.
    """
    there = [path for path in paths if path.is_file()]
    if len(there) > 1:
        raise DeeperError(f"{what}: there are {' and '.join(map(str, there))}; keep one of them there")
    return there[0] if there else None


def _amazon(category: str) -> tuple[FormatName, tuple[str, ...]]:
    return "amazon", (f"{category}_5.json", f"{category}.json", f"{category}.jsonl")


ORIGINALS: Mapping[str, tuple[FormatName, tuple[str, ...]]] = {
    "recipe": ("food", ("RAW_interactions.csv",)),
    "book": _amazon("Books"),
    "clothing": _amazon("Clothing_Shoes_and_Jewelry"),
    "local_business": ("google_local", ("review-New_York_10.json", "review-New_York.json")),
    "movies_tv": _amazon("Movies_and_TV"),
    "movielens": ("movielens", ("ratings.csv", "rating.csv")),
    "arts_crafts_sewing": _amazon("Arts_Crafts_and_Sewing"),
    "automotive": _amazon("Automotive"),
    "sports_outdoors": _amazon("Sports_and_Outdoors"),
    "grocery": _amazon("Grocery_and_Gourmet_Food"),
}
"""Of the paper's domains: the format, and names of the file of ratings, each also with .gz behind it."""


def find_original(domain: Domain, folder: Path) -> OriginalSource | None:
    """The source of one of the paper's domains, from files in a folder or up to two folders below it.

    A file of MovieLens counts where one of films lies beside it, since many others are called ratings.csv.

    Raises:
        DeeperError: several files have names of that domain's.
    """
    written, names = ORIGINALS[domain.name]
    places = [folder, *folder.glob("*/"), *folder.glob("*/*/")]
    paths = [place / (name + packed) for place in places for name in names for packed in ("", ".gz")]
    sources = [OriginalSource(domain, written, path) for path in sorted(paths) if path.is_file()]
    if written == "movielens":
        sources = [source for source in sources if source.items is not None]
    only([source.file for source in sources], f"the ratings of domain {domain.name!r}")
    return sources[0] if sources else None


def expected_original(domain: Domain, folder: Path) -> OriginalSource:
    """The source of one of the paper's domains whose file is still to be put in a folder."""
    written, names = ORIGINALS[domain.name]
    return OriginalSource(domain, written, folder / names[0])


def expected_names() -> list[str]:
    """Names of the files of ratings that are looked for."""
    return [name for _, names in ORIGINALS.values() for name in names]
