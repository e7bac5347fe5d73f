"""A user's own log of events: a file, a query on a DuckDB file, or a query on Postgres (see `own_rows`).

It becomes the relation `logged`, with a row an event, or a row a line that cannot be read: that one has a
`defect` (one of `method.induction.rejects.REASONS`) and a `detail`. `method.induction.cutting` says what its
columns mean. Rows that are alike count each: people do things again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import duckdb

from deeper_assets.method.induction.cutting import Borders
from deeper_assets.method.sql import quoted
from deeper_assets.sources.logs import TEXT_OF, TIME_OF, expected_but
from deeper_assets.sources.own_rows import OwnRows
from deeper_assets.sources.shape import LONGEST_TEXT, ODDNESS, ReadReport, nobody


@dataclass(frozen=True)
class EventColumns:
    """Which column of a log of events holds what.

    Attributes:
        user: the user's id.
        text: what the event was about: a title, a query, a name.
        time: when it happened: a timestamp (UTC without a zone), a date, or epoch seconds or milliseconds.
        order: a number that orders a user's events; the time without it.
        session: what the events of one session have in common; without it, silence ends a session, or of a
            log without times every tenth event does.
        item: the item's id; without it, the text.
        kind: what was done: view, search, click, buy.
        sign: a number: below 0 the user disliked it, above 0 liked it; 0 or empty says neither.
    """

    user: str
    text: str
    time: str | None = None
    order: str | None = None
    session: str | None = None
    item: str | None = None
    kind: str | None = None
    sign: str | None = None


def wrong_events(columns: EventColumns) -> str | None:
    """What is wrong with the columns of a log of events; None where they fit."""
    if columns.time is None and columns.order is None:
        return "events happen one after another: name events.time or events.order"
    return None


def borders_of(columns: EventColumns | None) -> Borders:
    """What ends a session of a log with these columns; None: of generated people."""
    if columns is None or (columns.session is None and columns.time is not None):
        return "silence"
    return "order" if columns.session is None else "given"


@dataclass(frozen=True)
class EventLog(OwnRows):
    """One domain's events from a file or a query.

    Attributes:
        columns: which column holds what.

    Raises:
        DeeperError: see `OwnRows` and `wrong_events`.
    """

    WHAT: ClassVar[str] = "events"

    columns: EventColumns

    def _wrong(self) -> str | None:
        return wrong_events(self.columns)

    def settings(self) -> dict[str, Any]:
        """Kind, domain, columns, and what is read."""
        return {"kind": "events", **super().settings()}

    def load(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> ReadReport:
        """Make the temporary relation `logged`, one row a line or record."""
        answer = self._give(connection, folder)
        connection.execute(_logged(self._called, list(self._mapped())))
        return ReadReport(placed=False, answer=answer)

    def _typed(self, connection: duckdb.DuckDBPyConnection, texts: Mapping[str, str]) -> dict[str, str]:
        return typed_events(connection, texts)


def typed_events(connection: duckdb.DuckDBPyConnection, texts: Mapping[str, str]) -> dict[str, str]:
    """The columns of `given` that a reader selects: name → SQL. So each line is looked at once.

    Args:
        connection: where the reader works; it gets the macros that these columns need.
        texts: SQL for the text of each column that there is.
    """
    for macro in (TIME_OF, TEXT_OF, ODDNESS):
        connection.execute(macro)
    held = {name: f"({text})" for name, text in texts.items()}
    columns = {"user_id": f"nullif(trim({held['user']}), '')", "text": f"text_of({held['text']})"}
    for name, column in (("session", "session_id"), ("item", "item_id"), ("kind", "kind")):
        if name in held:
            columns[column] = f"nullif(trim({held[name]}), '')"
    if "time" in held:
        columns["happened_at"] = f"time_of({held['time']})"
        columns["time_text"] = f"CASE WHEN time_of({held['time']}) IS NULL THEN left({held['time']}, 80) END"
    if "order" in held:
        order = f"TRY_CAST({held['order']} AS DECIMAL(38, 9))"
        columns["order_at"] = order
        columns["order_text"] = f"CASE WHEN {order} IS NULL THEN left({held['order']}, 80) END"
    if "sign" in held:
        number = f"TRY_CAST({held['sign']} AS DOUBLE)"
        columns["direction"] = f"CASE WHEN NOT isnan({number}) THEN sign({number})::INTEGER END"
        columns["sign_text"] = f"CASE WHEN trim({held['sign']}) <> '' THEN left({held['sign']}, 80) END"
    looked_at = {called: held[name] for name, called in _TOLD.items() if name in held}
    may_be_odd = [
        f"contains({text}, chr(0)) OR strlen({text}) > {LONGEST_TEXT}" for text in looked_at.values()
    ]
    oddness = ", ".join(f"oddness({quoted(called)}, {text})" for called, text in looked_at.items())
    return {**columns, "odd": f"CASE WHEN {' OR '.join(may_be_odd)} THEN coalesce({oddness}) END"}


_TOLD = {"user": "user id", "text": "text", "session": "session", "item": "item id", "kind": "kind"}
"""Column → what a person is told is odd."""


def _logged(called: str, names: list[str]) -> str:
    """The statement that makes the view `logged` of `given`, of a log with columns for these things."""
    there = {
        "session_id": "session" in names,
        "kind": "kind" in names,
        "happened_at": "time" in names,
        "order_at": "order" in names,
    }
    held = {column: column if is_there else "NULL" for column, is_there in there.items()}
    item = "item_id" if "item" in names else "text"
    defects = {
        "malformed_line": ("malformed IS NOT NULL", "malformed"),
        "missing_user": ("user_id IS NULL", "'no user id'"),
    }
    if "order" in names:
        defects["unreadable_order"] = ("order_at IS NULL", expected_but("order_text", "a number"))
    if "time" in names:
        defects["unreadable_time"] = ("happened_at IS NULL", expected_but("time_text", "a time"))
    if "session" in names:
        defects["missing_session"] = ("session_id IS NULL", "'no session'")
    sign = "0"
    if "sign" in names:
        sign = "coalesce(direction, 0)"
        unreadable = "direction IS NULL AND sign_text IS NOT NULL"
        defects["unreadable_sign"] = (unreadable, expected_but("sign_text", "a number"))
    defects["unusable_text"] = ("odd IS NOT NULL", "odd")
    defect, detail = (
        " ".join(f"WHEN {when} THEN {then}" for when, then in cases)
        for cases in (
            [(when, quoted(name)) for name, (when, _) in defects.items()],
            [(f"defect = {quoted(name)}", told) for name, (_, told) in defects.items()],
        )
    )
    return f"""
CREATE OR REPLACE TEMP VIEW logged AS
SELECT line - 1 AS "row", CASE WHEN odd IS NULL OR NOT {nobody("user_id")} THEN user_id END AS user_id,
    cleaned(text) AS text, cleaned({item}) AS item_id, {held["session_id"]}::VARCHAR AS session_id,
    cleaned({held["kind"]}::VARCHAR) AS kind, {sign}::INTEGER AS sign,
    {held["happened_at"]}::TIMESTAMP AS happened_at, {held["order_at"]}::DECIMAL(38, 9) AS order_at,
    {quoted(called)} AS file, line, defect, replace(CASE {detail} END, chr(0), '�') AS detail
FROM (SELECT *, CASE {defect} END AS defect FROM given)
"""
