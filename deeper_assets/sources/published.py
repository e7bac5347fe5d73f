"""The ratings the paper's authors published: windows W0–W4 in CSV files, up to W6 in the iteration files.

`<dataset>/split_data/{train,test}_dataset.csv` holds a user a row and a window a cell, as a Python literal;
`<dataset>/test_iterations/test_iteration_<k>.jsonl` holds an evaluation user a line, with windows k−1, k and
k+1 as items `I<w>` and ratings `U<w>`. So most windows stand in several files; their copies are compared and
merged. The JSON files write `"` and `@` in titles as `'`, so the title of the CSV file is kept.

Departs from the paper: it does not say how copies are treated that disagree. Here a rating whose copies
contradict each other is rejected, and a user whom both splits have is only evaluated.
"""

import ast
import html
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import duckdb

from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import DeeperError, first_line
from deeper_assets.method.sql import quoted
from deeper_assets.method.windows import WINDOW
from deeper_assets.sources.csv_files import load_csv, read_header
from deeper_assets.sources.shape import RawRating, ReadReport, load_rows, readable, sha256_of

Pair = tuple[object, object] | None
"""A window's place: title and rating, neither read yet; None where it is uncertain what belongs together."""

_LONGEST = 1_000_000  # characters of a window or a JSON line; real ones have at most 8,000
_GLUED = re.compile(r"""['"], ['"]""")  # where a lost quote glued two titles into one


@dataclass(frozen=True)
class PublishedSource:
    """One domain of the published files; `folder` holds the datasets, or a folder `deeper` that does."""

    domain: Domain
    folder: Path

    def files(self) -> list[Path]:
        """The dataset's files that are there: CSV files first, then the iterations in order."""
        dataset = self._dataset()
        tables = [dataset / "split_data" / f"{split}_dataset.csv" for split in ("train", "test")]
        iterations = (dataset / "test_iterations").glob("test_iteration_*.jsonl")
        return [path for path in tables if path.exists()] + sorted(iterations, key=_iteration)

    def identity(self) -> dict[str, Any]:
        """Kind, domain, dataset, and the hash of each file."""
        return {**self._asked(), "files": {self._name(path): sha256_of(path) for path in self._inputs()}}

    def settings(self) -> dict[str, Any]:
        """Kind, domain, dataset, and the folder that is read."""
        return {**self._asked(), "folder": str(self.folder)}

    def _asked(self) -> dict[str, Any]:
        return {"kind": "published", "domain": self.domain.name, "dataset": self.domain.dataset}

    def load(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> ReadReport:
        """Merge all copies of all windows; one row a rating, a bad copy, or a line that cannot be read."""
        files = self._inputs()
        gathered = _Gathered(divided=any(path.name == "train_dataset.csv" for path in files))
        for number, path in enumerate(files):
            if path.suffix == ".csv":
                _read_table(connection, folder, path, f"table_{number}", self._name(path), gathered)
            else:
                _read_iteration(connection, path, self._name(path), gathered)
        load_rows(connection, folder, gathered.rows())
        return ReadReport(placed=True, merged_copies=gathered.merged_copies)

    def _dataset(self) -> Path:
        if self.domain.dataset is None:
            raise DeeperError(f"domain {self.domain.name!r} has no published dataset; give it another source")
        places = [self.folder / self.domain.dataset, self.folder / "deeper" / self.domain.dataset]
        for place in places:
            if place.is_dir():
                return place
        raise DeeperError(
            f"no folder {self.domain.dataset!r} in {self.folder}; expected it to hold split_data/ and "
            f"test_iterations/ of domain {self.domain.name!r}. Put the published files there, or set the "
            "published folder to where they are."
        )

    def _inputs(self) -> list[Path]:
        """`files`, each of which can be read; there is one of evaluation users."""
        test = self._dataset() / "split_data" / "test_dataset.csv"
        readable(test, f"the published evaluation users of domain {self.domain.name!r}")
        return [readable(path, "a published file") for path in self.files()]

    def _name(self, path: Path) -> str:
        return path.relative_to(self._dataset()).as_posix()


@dataclass(frozen=True)
class _Copy:
    """One window of one user, as one line of one file has it: titles and ratings, neither read yet."""

    file: str
    line: int
    titles: Sequence[object]
    ratings: Sequence[object]

    @property
    def at(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def lengths(self) -> str:
        return f"{len(self.titles)} titles, {len(self.ratings)} ratings"

    def pairs(self) -> list[Pair]:
        """The window's places.

        Titles may have been glued together, so that there are fewer titles than ratings. Then the titles
        before the first glued one are paired from the front, and those after the last one from the back.
        """
        titles, ratings = self.titles, self.ratings
        if len(titles) == len(ratings):
            return list(zip(titles, ratings, strict=True))
        glued = [n for n, title in enumerate(titles) for _ in _GLUED.findall(str(title))]
        longest = max(len(titles), len(ratings))
        if len(titles) + len(glued) != len(ratings):
            return [None] * longest
        after = len(titles) - 1 - glued[-1]
        front: list[Pair] = list(zip(titles[: glued[0]], ratings, strict=False))
        back = list(zip(titles[len(titles) - after :], ratings[longest - after :], strict=True))
        return [*front, *[None] * (longest - len(front) - after), *back]


@dataclass
class _Gathered:
    """What was read so far.

    Attributes:
        divided: whether the dataset has training users. Where it has none, its users' split is left open, so
            that some of them can train.
        copies: (split, user, window) → copies of that window, in the order read.
        unreadable: a row for each line or window that cannot be read.
        merged_copies: agreeing copies of a rating that were merged into its row.
    """

    divided: bool
    copies: dict[tuple[str, str, int], list[_Copy]] = field(default_factory=dict)
    unreadable: list[RawRating] = field(default_factory=list)
    merged_copies: int = 0

    def add(self, split: str, user: str, window: int, value: object, file: str, line: int) -> None:
        """Take one window: {'items': […], 'ratings': […]}; any other value is rejected."""
        match value:
            case {"items": list(titles), "ratings": list(ratings)}:
                self.copies.setdefault((split, user, window), []).append(_Copy(file, line, titles, ratings))
            case _:
                self.reject("unreadable_window", f"W{window}: {_short(value)}", file, line, user, split)

    def reject(
        self,
        defect: str,
        detail: str,
        file: str,
        line: int,
        user: str | None = None,
        split: str | None = None,
    ) -> None:
        """Take a line or a window that cannot be read."""
        split = split if self.divided else None
        self.unreadable.append(
            RawRating(user_id=user, split=split, file=file, line=line, defect=defect, detail=detail)
        )

    def rows(self) -> Iterator[RawRating]:
        """Every row of raw_ratings, users in the order read; counts `merged_copies` as it goes."""
        evaluated = {user for split, user, _ in self.copies if split == "eval"}
        histories: dict[tuple[str, str], list[int]] = {}
        for split, user, window in self.copies:
            histories.setdefault((split, user), []).append(window)
        for (split, user), windows in histories.items():
            rows = (row for window in sorted(windows) for row in self._window(split, user, window))
            yield from map(_leave_out, rows) if split == "train" and user in evaluated else rows
        yield from self.unreadable

    def _window(self, split: str, user: str, window: int) -> Iterator[RawRating]:
        """One window: a row a place, then a row for each copy, or rating of a copy, that is left out."""
        copies = self.copies[split, user, window]
        own_split = split if self.divided else None
        whole = [copy for copy in copies if len(copy.titles) == len(copy.ratings)]
        kept, *others = whole or copies
        places = kept.pairs()
        contradicted: dict[int, str] = {}
        spare: list[RawRating] = []
        for copy in others if whole else ():
            again = copy.file == kept.file
            for place, (ours, theirs) in enumerate(zip_longest(places, copy.pairs())):
                agree = _agree(ours, theirs)
                if not agree:
                    contradicted.setdefault(place, f"{kept.at} {_short(ours)}, {copy.at} {_short(theirs)}")
                if again and theirs is not None:
                    detail = f"already in line {kept.line}" if agree else contradicted[place]
                    defect = "duplicate_row" if agree else "contradicting_copies"
                    row = _rating(user, own_split, copy, theirs)
                    spare.append(replace(row, defect=defect, detail=detail))
                elif agree:
                    self.merged_copies += 1
        places += [None] * (1 + max(contradicted, default=-1) - len(places))
        length = len(places)
        places += [None] * (WINDOW - length)
        for place, pair in enumerate(places):
            row = replace(_rating(user, own_split, kept, pair), position=window * WINDOW + place)
            if place >= WINDOW:
                detail = f"place {place} of W{window}, which has places 0 to {WINDOW - 1}"
                row = replace(row, position=None, defect="window_too_long", detail=detail)
            elif place in contradicted:
                row = replace(row, defect="contradicting_copies", detail=contradicted[place])
            elif place >= length:
                detail = f"W{window} has {kept.lengths}, {WINDOW} expected"
                row = replace(row, defect="short_window", detail=detail)
            elif pair is None:
                row = replace(row, defect="unequal_lengths", detail=f"W{window}: {kept.lengths}")
            yield row
        for copy in [copy for copy in copies if copy is not kept and copy not in whole]:
            used = f"{kept.at} is used" if whole else f"see {kept.at}"
            detail = f"W{window}: {copy.lengths}; {used}"
            bare = RawRating(user_id=user, split=own_split, file=copy.file, line=copy.line)
            yield replace(bare, defect="unequal_lengths", detail=detail)
        yield from spare


def _read_table(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    path: Path,
    table: str,
    name: str,
    gathered: _Gathered,
) -> None:
    """Read split_data/{train,test}_dataset.csv."""
    columns, _ = read_header(path)
    windows = {column: int(column[8:]) for column in columns if re.fullmatch(r"windows_\d{1,3}", column)}
    if "id" not in columns or not windows:
        raise DeeperError(
            f"{path} needs the columns id and windows_0, windows_1, …; it has {', '.join(columns)}"
        )
    load_csv(connection, folder, path, table, {"user": "id"} | {column: column for column in windows})
    select = f'SELECT line, malformed, "user", {", ".join(windows)} FROM {table} ORDER BY line'
    split = "train" if path.name.startswith("train") else "eval"
    for line, malformed, user, *cells in connection.execute(select).fetchall():
        if malformed is not None and malformed.startswith("Invalid unicode"):
            raise DeeperError(f"{path} is not UTF-8 (line {line}); convert it, for example with iconv")
        if malformed is not None:
            gathered.reject("malformed_line", malformed, name, line)
        elif user is None or not user.strip():
            gathered.reject("missing_user", "no id", name, line)
        else:
            for window, cell in zip(windows.values(), cells, strict=True):
                if cell is not None:
                    gathered.add(split, user.strip(), window, _literal(cell), name, line)


def _read_iteration(
    connection: duckdb.DuckDBPyConnection, path: Path, name: str, gathered: _Gathered
) -> None:
    """Read test_iterations/test_iteration_<k>.jsonl."""
    select = (
        "SELECT unnest(string_split(content, E'\\n')), generate_subscripts(string_split(content, E'\\n'), 1) "
        f"FROM read_text({quoted(path)})"
    )
    try:
        lines = connection.execute(select).fetchall()
    except duckdb.Error as error:
        raise DeeperError(f"{path} cannot be read as text: {first_line(error)}") from error
    for text, line in lines:
        if not text.strip():
            continue
        record = _json(text)
        if not isinstance(record, dict):
            gathered.reject("malformed_line", f"no JSON object: {_short(text)}", name, line)
        elif not (user := _user(record.get("id"))):
            gathered.reject("missing_user", "no id", name, line)
        else:
            windows = {int(key[1:]) for key in record if re.fullmatch(r"[IU]\d{1,3}", key)}
            for window in sorted(windows):
                pair = {"items": record.get(f"I{window}"), "ratings": record.get(f"U{window}")}
                gathered.add("eval", user, window, pair, name, line)


def _literal(text: str) -> object:
    """The Python literal in `text`; the text itself where it is none."""
    if len(text) > _LONGEST:
        return text
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _json(text: str) -> object:
    """The JSON value in `text`; None where it is none."""
    if len(text) > _LONGEST:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _leave_out(row: RawRating) -> RawRating:
    """A training row of a user who is evaluated."""
    if row.defect is not None:
        return replace(row, position=None)
    detail = "the user is in an evaluation file too"
    return replace(row, position=None, defect="also_in_evaluation", detail=detail)


def _rating(user: str, split: str | None, copy: _Copy, pair: Pair) -> RawRating:
    """The row of one (title, rating) pair, without a position."""
    title, rating = pair if pair is not None else (None, None)
    called = _title(title)
    return RawRating(
        user_id=user,
        item_id=called,
        title=called,
        rating_text=None if rating is None else _short(rating),
        rating=_number(rating),
        split=split,
        file=copy.file,
        line=copy.line,
    )


def _user(value: object) -> str:
    return "" if value is None else str(value).strip()


def _title(value: object) -> str | None:
    """The title with HTML entities resolved (some are escaped twice) and white space collapsed."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    for _ in range(3):
        text = html.unescape(text)
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).strip()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _agree(ours: Pair, theirs: Pair) -> bool:
    """Whether two copies of a place are equal, apart from what the JSON files change in titles."""
    if ours is None or theirs is None:
        return False
    if ours == theirs:
        return True
    same_rating = ours[1] == theirs[1] or (
        _number(ours[1]) is not None and _number(ours[1]) == _number(theirs[1])
    )
    return same_rating and _plain(ours[0]) == _plain(theirs[0])


def _plain(title: object) -> str:
    return (_title(title) or "").replace('"', "'").replace("@", "'").casefold()


def _iteration(path: Path) -> tuple[int, str]:
    number = re.search(r"(\d+)\.jsonl$", path.name)
    return (int(number[1]) if number else 0, path.name)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else text[:200] + "…"
