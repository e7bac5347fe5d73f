"""What a table and a column are, and the columns that many tables have. `schema.py` has all tables."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

ColumnType = Literal["VARCHAR", "INTEGER", "BIGINT", "DOUBLE", "TIMESTAMP", "BLOB"]


@dataclass(frozen=True)
class Column:
    """One column: name, meaning (shown to people), SQL type, whether it may hold NULL, and a SQL CHECK."""

    name: str
    meaning: str
    type: ColumnType
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


text = partial(Column, type="VARCHAR")
integer = partial(Column, type="INTEGER")
long = partial(Column, type="BIGINT")
number = partial(Column, type="DOUBLE")
moment = partial(Column, type="TIMESTAMP")

PROVENANCE = (
    text("run_id", "Dagster run that wrote the row"),
    text("fingerprint", "hash of the code version, settings and input contents that made it"),
)
"""What the store itself fills in, in every row."""

DOMAIN = text("domain", "domain of the items, e.g. book")
USER = text("user_id", "the source's own id of the user")
WINDOW = integer("window", "window of the user's history, 0-based: W0, W1, …", check='"window" >= 0')
PLACE = integer("place", "place of the rating within its window, 0-based", check="place >= 0")
MODEL = text("model", "model that wrote the answer", nullable=True)
PERSONA = text("persona", "persona text; NULL where no answer could be used", nullable=True)
PREDICTED = number("predicted", "predicted rating, in rating points; NULL where unreadable", nullable=True)
PLACED = text(
    "placed",
    "how the rating found its item: by its name, by its position, or by a name that was corrected;"
    " NULL where unreadable",
    nullable=True,
    check="placed IN ('name', 'position', 'correction')",
)
ATTEMPTS = integer("attempts", "how often the chat model was asked", check="attempts >= 0")
NOTE = text("note", "why there is no value, or why an old one was carried over", nullable=True)
PROMPT = text("prompt", "complete prompt that the policy got")
VALIDATION = integer("validation", "1: measures the training; 0: trains", check="validation IN (0, 1)")
FILES = (
    text("file", "path inside the model's folder, parts separated by /", check="file <> ''"),
    Column("content", "the file's bytes", "BLOB"),
    long("size", "bytes of the file", check="size = octet_length(content)"),
    text("sha256", "SHA-256 of the bytes, 64 hexadecimal digits"),
)
ENDED = number("ended", "share of a few greedy texts of the policy that came to an end", nullable=True)
