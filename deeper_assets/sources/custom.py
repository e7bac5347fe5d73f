"""A user's own ratings: a file, a query on a DuckDB file, or a query on Postgres (see `own_rows`)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import duckdb

from deeper_assets.sources.amounts import Marks, make_marks
from deeper_assets.sources.logs import make_ratings, typed
from deeper_assets.sources.own_rows import OwnRows
from deeper_assets.sources.shape import ReadReport


@dataclass(frozen=True)
class ColumnMap:
    """Which column holds what.

    Attributes:
        user: the user's id.
        item: the item's id.
        rating: the rating, in rating points; None where `amount` says what was done, or each row does.
        title: what the item is called; the item's id without it.
        time: when it was given: a timestamp (UTC without a zone), a date, or epoch seconds or milliseconds.
        order: a number that orders a user's ratings; the time without it, and without both the rows' order.
        split: train or eval; without it (or where it is empty) users are divided by a hash.
        amount: in the place of ratings, how much was done: plays, minutes, what was paid; see `amounts`.
        categories: genres, tags or categories of the item, as one text.
    """

    user: str
    item: str
    rating: str | None = None
    title: str | None = None
    time: str | None = None
    order: str | None = None
    split: str | None = None
    amount: str | None = None
    categories: str | None = None


def wrong_marks(columns: ColumnMap, marks: Marks | None) -> str | None:
    """What is wrong with a column map beside a rule for marks; None where they fit."""
    if columns.rating is not None and columns.amount is not None:
        return "a row has a rating or an amount; name one of columns.rating and columns.amount"
    if columns.rating is not None and marks is not None:
        return "marks says how amounts become ratings; with columns.rating there is nothing to say"
    if columns.rating is None and marks is None:
        return (
            "name columns.rating; or where nobody rated, say by marks (domain, user or item) among which"
            " amounts of columns.amount, or numbers of rows, each is ranked"
        )
    return None


@dataclass(frozen=True)
class CustomSource(OwnRows):
    """One domain's ratings from a file or a query.

    Attributes:
        columns: which column holds what.
        marks: how amounts become ratings; None where there are ratings.

    Raises:
        DeeperError: see `OwnRows` and `wrong_marks`.
    """

    WHAT: ClassVar[str] = "ratings"

    columns: ColumnMap
    marks: Marks | None = None

    def _wrong(self) -> str | None:
        return wrong_marks(self.columns, self.marks)

    def settings(self) -> dict[str, Any]:
        """Kind, domain, columns, and what is read; with amounts, what makes marks of them."""
        made = {"marks": self.marks, "scale": asdict(self.domain.scale)} if self.marks is not None else {}
        return {**made, "kind": "custom", **super().settings()}

    def load(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> ReadReport:
        """One row a line or record; see `ColumnMap` for how each column is read."""
        answer = self._give(connection, folder)
        make_ratings(connection, self._called, repeats=self.marks is not None)
        if self.marks is None:
            return ReadReport(placed=False, answer=answer)
        merged = make_marks(connection, self.domain.scale, self.marks, counted=self.columns.amount is None)
        return ReadReport(placed=False, merged_copies=merged, answer=answer)

    def _texts(self) -> dict[str, str]:
        """SQL for the text of each column that there is; an amount stands as a rating, as does a row."""
        texts = super()._texts()
        return {"rating": texts.pop("amount", "'1'"), **texts}

    def _typed(self, connection: duckdb.DuckDBPyConnection, texts: Mapping[str, str]) -> dict[str, str]:
        return typed(connection, texts)
