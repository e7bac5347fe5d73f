"""Every table of the warehouse: columns, types, keys, and what each column means.

This is the one place that says what is stored. The warehouse creates its tables from here, refuses frames
that do not fit, and the Dagster UI shows these meanings beside the columns. Every row of an asset table also
carries the provenance columns below, filled in by the store itself.
"""

from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["VARCHAR", "INTEGER", "BIGINT", "DOUBLE", "TIMESTAMP"]


@dataclass(frozen=True)
class Column:
    """One column: SQL type, meaning (shown to people), whether NULL may stand in it, and a SQL CHECK."""

    name: str
    type: ColumnType
    meaning: str
    nullable: bool = False
    check: str | None = None


@dataclass(frozen=True)
class Table:
    """One table: its columns in order, the key no two rows of which may agree, and its partition columns.

    `partition` names the columns whose values are the partition key (empty: one unpartitioned whole).
    `key` is unique within a partition.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition: tuple[str, ...] = ()

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns an asset has to supply: all but provenance."""
        return tuple(column.name for column in self.columns)


PROVENANCE = (
    Column("run_id", "VARCHAR", "Dagster run that wrote the row"),
    Column("fingerprint", "VARCHAR", "hash of the code version, settings and input contents that made it"),
)

LEDGER = Table(
    "materializations",
    (
        Column("version", "BIGINT", "number of the replacement, counting up from 1 over all tables"),
        Column("table_name", "VARCHAR", "table a partition of which was replaced"),
        Column(
            "partition", "VARCHAR", "the partition: JSON object of column and value, {} for a whole table"
        ),
        *PROVENANCE,
        Column("content", "VARCHAR", "hash of the rows, whatever their order and whoever wrote them"),
        Column("row_count", "BIGINT", "rows in the partition", check="row_count >= 0"),
        Column("code_version", "VARCHAR", "version of the code that made it"),
        Column("settings", "VARCHAR", "settings that it depends on, as a JSON object"),
        Column(
            "inputs",
            "VARCHAR",
            "what was read: JSON list of table, partition, run_id, fingerprint and content",
        ),
        Column("made_at", "TIMESTAMP", "when it was replaced, UTC"),
    ),
    key=("version",),
)
"""Append-only: one row for every replacement of a partition. No asset, so it is not in `TABLES`."""

_DOMAIN = Column("domain", "VARCHAR", "domain of the items, e.g. book")
_USER = Column("user_id", "VARCHAR", "the source's own id of the user")
_SPLIT = Column(
    "split", "VARCHAR", "train or eval; a user is never in both", check="split IN ('train', 'eval')"
)
_WINDOW = Column(
    "window", "INTEGER", "window of the user's history, 0-based: W0, W1, …", check='"window" >= 0'
)
_PLACE = Column("place", "INTEGER", "place of the rating within its window, 0-based", check="place >= 0")
_METHOD = Column("method", "VARCHAR", "how personas are updated, e.g. inc_update")
_ROUND = Column(
    "round", "INTEGER", "evaluation round, 0-based: round r has r updates behind it", check='"round" >= 0'
)
_MODEL = Column("model", "VARCHAR", "model that wrote the answer", nullable=True)
_PERSONA = Column("persona", "VARCHAR", "persona text; NULL where no answer could be used", nullable=True)
_PREDICTED = Column(
    "predicted", "DOUBLE", "predicted rating, in rating points; NULL where unreadable", nullable=True
)
_ATTEMPTS = Column("attempts", "INTEGER", "how often the chat model was asked", check="attempts >= 0")
_NOTE = Column("note", "VARCHAR", "why there is no value, or why an old one was carried over", nullable=True)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "raw_ratings",
            (
                _DOMAIN,
                Column(
                    "row",
                    "BIGINT",
                    "number of the rating in the domain's source, 0-based",
                    check='"row" >= 0',
                ),
                Column(
                    "user_id",
                    "VARCHAR",
                    "the source's own id of the user; NULL where it has none",
                    nullable=True,
                ),
                Column("item_id", "VARCHAR", "the source's own id of the item, or its title", nullable=True),
                Column("title", "VARCHAR", "what the item is called, HTML entities resolved", nullable=True),
                Column("rating_text", "VARCHAR", "the rating as the source wrote it", nullable=True),
                Column(
                    "rating",
                    "DOUBLE",
                    "the rating, in rating points; NULL where it is no number",
                    nullable=True,
                ),
                Column(
                    "rated_at",
                    "TIMESTAMP",
                    "when it was given, UTC; NULL where the source only orders",
                    nullable=True,
                ),
                Column(
                    "position",
                    "BIGINT",
                    "place in the user's time order, 0-based; NULL where it has none",
                    nullable=True,
                ),
                Column(
                    "split",
                    "VARCHAR",
                    "train or eval where the source decides it",
                    nullable=True,
                    check="split IN ('train', 'eval')",
                ),
                Column("file", "VARCHAR", "file or query the rating was read from", nullable=True),
                Column("line", "BIGINT", "1-based line (or record) in that file", nullable=True),
                Column(
                    "defect",
                    "VARCHAR",
                    "reason for which the source's reader could not use it",
                    nullable=True,
                ),
                Column(
                    "detail", "VARCHAR", "what exactly the reader saw, where there is a defect", nullable=True
                ),
            ),
            key=("domain", "row"),
            partition=("domain",),
        ),
        Table(
            "rejected_ratings",
            (
                _DOMAIN,
                Column("user_id", "VARCHAR", "user the rating belongs to, where known", nullable=True),
                Column(
                    "row", "BIGINT", "row of raw_ratings; NULL where a whole user is rejected", nullable=True
                ),
                Column("file", "VARCHAR", "file (or query) it was read from", nullable=True),
                Column("line", "BIGINT", "1-based line (or record) in that file", nullable=True),
                Column("reason", "VARCHAR", "why it cannot be used, as one of a fixed set of words"),
                Column("detail", "VARCHAR", "the value that was found and what was expected", nullable=True),
                Column("ratings", "BIGINT", "how many ratings this row stands for", check="ratings >= 0"),
            ),
            key=("domain", "user_id", "row", "reason"),
            partition=("domain",),
        ),
        Table(
            "rating_windows",
            (
                _DOMAIN,
                _USER,
                _SPLIT,
                _WINDOW,
                _PLACE,
                Column("item_id", "VARCHAR", "the source's own id of the item, or its title"),
                Column("title", "VARCHAR", "what the item is called", check="trim(title) <> ''"),
                Column("rating", "DOUBLE", "the user's rating, in rating points, on the domain's scale"),
                Column(
                    "rated_at",
                    "TIMESTAMP",
                    "when it was given, UTC; NULL where the source only orders",
                    nullable=True,
                ),
            ),
            key=("domain", "user_id", "window", "place"),
            partition=("domain",),
        ),
        Table(
            "initial_personas",
            (_DOMAIN, _USER, _SPLIT, _PERSONA, _NOTE, _ATTEMPTS, _MODEL),
            key=("domain", "user_id"),
            partition=("domain",),
        ),
        Table(
            "initial_predictions",
            (_DOMAIN, _USER, _SPLIT, _WINDOW, _PLACE, _PREDICTED, _NOTE, _ATTEMPTS, _MODEL),
            key=("domain", "user_id", "window", "place"),
            partition=("domain",),
        ),
        Table(
            "persona_rounds",
            (_DOMAIN, _METHOD, _USER, _ROUND, _PERSONA, _NOTE, _ATTEMPTS, _MODEL),
            key=("domain", "method", "user_id", "round"),
            partition=("domain", "method"),
        ),
        Table(
            "round_predictions",
            (_DOMAIN, _METHOD, _USER, _ROUND, _WINDOW, _PLACE, _PREDICTED, _NOTE, _ATTEMPTS, _MODEL),
            key=("domain", "method", "user_id", "round", "place"),
            partition=("domain", "method"),
        ),
        Table(
            "round_errors",
            (
                _DOMAIN,
                _METHOD,
                _USER,
                _ROUND,
                _WINDOW,
                Column("items", "INTEGER", "ratings in the predicted window", check="items > 0"),
                Column(
                    "error",
                    "DOUBLE",
                    "ε(round+1|S_round): mean |predicted − actual|, rating points; NULL where unknown",
                    nullable=True,
                    check="error >= 0",
                ),
            ),
            key=("domain", "method", "user_id", "round"),
            partition=("domain", "method"),
        ),
        Table(
            "floors_table",
            (
                _DOMAIN,
                Column("method", "VARCHAR", "floor: a predictor that reads no text"),
                _ROUND,
                Column("users", "INTEGER", "evaluation users with a window to predict", check="users >= 0"),
                Column(
                    "mae",
                    "DOUBLE",
                    "mean over users of the mean absolute error, rating points",
                    nullable=True,
                ),
            ),
            key=("domain", "method", "round"),
        ),
        Table(
            "mae_table",
            (
                Column("domain", "VARCHAR", "domain, or macro: the plain average over the domains above it"),
                Column("method", "VARCHAR", "update method or floor"),
                Column(
                    "kind",
                    "VARCHAR",
                    "method, or floor: a predictor that reads no text",
                    check="kind IN ('method', 'floor')",
                ),
                _ROUND,
                Column("users", "INTEGER", "evaluation users whose error is known", check="users >= 0"),
                Column(
                    "mae", "DOUBLE", "mean over users of ε(round+1|S_round), rating points", nullable=True
                ),
                Column(
                    "unreadable",
                    "DOUBLE",
                    "share of users with a window to predict whose error is unknown",
                    check="unreadable BETWEEN 0 AND 1",
                ),
                Column(
                    "paper_mae",
                    "DOUBLE",
                    "the paper's figure (Tables 13–17); NULL where it has none",
                    nullable=True,
                ),
            ),
            key=("domain", "method", "round"),
        ),
    )
}
