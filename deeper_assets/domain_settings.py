"""What settings say of a domain of one's own, and the kinds of values that name what is read."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from deeper_assets.engines.secrets import MAY_BE_SECRET, VariableName
from deeper_assets.method.domains import Scale
from deeper_assets.sources.amounts import Marks
from deeper_assets.sources.custom import ColumnMap, wrong_marks
from deeper_assets.sources.events import EventColumns, wrong_events
from deeper_assets.sources.originals import FormatName
from deeper_assets.sources.own_rows import Refresh


def _local(value: object) -> object:
    if isinstance(value, str | Path) and _ELSEWHERE.search(str(value)):
        raise ValueError("expected a path on this machine, and not an address or a connection string")
    if isinstance(value, str | Path) and max(map(len, str(value).split("/"))) > 255:
        raise ValueError("no file has a name of more than 255 characters")
    return value


def _without_password(query: str) -> str:
    if _PASSWORD.search(query) or _TOKEN.search(query):
        raise ValueError("a query with a password or key would be recorded; ask Postgres by dsn_env")
    return query


_PASSWORD = re.compile(
    r"://[^\s/'\"@]+@|://[^\s/'\":@]+:[^\s'\"]*@"
    r"|\b(?:host|hostaddr|user|dbname|service)\s*=.*\b(?:password|passwd|pwd)\s*="
    r"|\b(?:password|passwd|pwd)\s*=.*\b(?:host|hostaddr|user|dbname|service)\s*=",
    re.IGNORECASE | re.DOTALL,
)
"""In an address, or in a connection string such as `host=… password=…`."""

_TOKEN = re.compile(r"[?&][\w.-]*(?:key|token|secret|passw|pwd|sig|credential)[\w.-]*=", re.IGNORECASE)
"""In the parameters of an address."""

_ELSEWHERE = re.compile(rf"^[\w+.-]+:/|{_PASSWORD.pattern}", re.IGNORECASE)
"""An address, or a connection string."""

LocalPath = Annotated[Path, BeforeValidator(_local), MAY_BE_SECRET]
"""A file or folder; a connection string that stands here by mistake is not repeated."""

Query = Annotated[str, AfterValidator(_without_password), MAY_BE_SECRET]
"""SQL, which is recorded with what it gave, so a password belongs in the environment."""


STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)
"""Of all settings: unknown names are errors, and so are numbers that are none; no error shows all values."""


class DomainSettings(BaseModel):
    """A domain of one's own: what its items are, and where its ratings or events lie."""

    model_config = STRICT

    item_type: str = Field(description="one item, in the singular: podcast episode")
    scale: Scale | None = Field(None, description="the marks of its ratings")
    seen: bool = Field(True, description="whether its training users train the policy")
    columns: ColumnMap | None = Field(None, description="what the columns hold; a `format` says that itself")
    events: EventColumns | None = Field(
        None, description="in the place of `columns`: what they hold where the rows are events, not ratings"
    )
    file: LocalPath | None = Field(
        None, description="CSV, TSV, JSON lines (also .gz) or Parquet, or of a `format`"
    )
    format: FormatName | None = Field(
        None, description="of an original file: movielens, amazon, google_local or food"
    )
    query: Query | None = Field(None, description="SQL that gives the rows; alone, DuckDB's SQL over files")
    database: LocalPath | None = Field(None, description="DuckDB file that the query is asked of, read-only")
    dsn_env: VariableName | None = Field(
        None, description="environment variable with the DSN of the Postgres asked"
    )
    marks: Marks | None = Field(
        None,
        description="without ratings: amounts become marks by their rank among those of the domain, of the"
        " user or of the item",
    )
    refresh: Refresh = Field(
        "changed", description="when its source is read again; manual: only with `deeper run --refresh`"
    )

    @model_validator(mode="after")
    def _one_place(self) -> "DomainSettings":
        if (self.file is None) == (self.query is None):
            raise ValueError("give either a file or a query")
        if sum(given is not None for given in (self.columns, self.events, self.format)) != 1:
            raise ValueError(
                "give either columns or, for a file that its publisher has written, its format; of a log of"
                " events, give its columns by events"
            )
        if self.file is None and self.format is not None:
            raise ValueError("a format says how a file is written; a query needs columns")
        if self.query is None and (self.database is not None or self.dsn_env is not None):
            raise ValueError("database and dsn_env say what a query is asked of; a file needs neither")
        if self.database is not None and self.dsn_env is not None:
            raise ValueError("a query is asked of a database file or of Postgres (dsn_env), not of both")
        return self

    @model_validator(mode="after")
    def _ratings_or_amounts(self) -> "DomainSettings":
        if self.events is not None:
            return self._events()
        if self.scale is None:
            raise ValueError("give the scale of the ratings, as {lowest: 1, highest: 5, step: 1}")
        if self.columns is None and self.marks is not None:
            raise ValueError("marks says how amounts become ratings; files of a format hold ratings")
        if self.columns is not None and (wrong := wrong_marks(self.columns, self.marks)) is not None:
            raise ValueError(wrong)
        return self

    def _events(self) -> "DomainSettings":
        for name, unsaid in (("scale", None), ("marks", None), ("seen", True)):
            if getattr(self, name) != unsaid:
                raise ValueError(f"{name} is for ratings; a log of events has none, so leave it out")
        if self.events is not None and (wrong := wrong_events(self.events)) is not None:
            raise ValueError(wrong)
        return self
