"""What a partition holds and comes from, as short Markdown texts for its page in the UI.

Belongs here: frames, settings and links → Markdown. Titles and personas are other people's data: whatever
they say, they are text on the page, and no part of its structure.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pandas as pd

from deeper_assets.method.controls import CONTROLS
from deeper_assets.method.frames import text_in
from deeper_assets.reports.induction import Why, evidence_of, figures_of, words_of

PEOPLE = 3
"""A preview shows so many users at most: the first by id."""

ROWS = 5
"""A preview of another table shows its first rows."""

MEMORIES = 2
"""Of each persona of a set, the latest ones, with their events."""

EVENTS = 30
"""Of a set, at most; a session may have hundreds."""

PREVIEW = 6000
"""Characters of the texts of one preview; each of them may have its even share."""

CELL = 60
"""Characters of a table's cell."""

SETTINGS = 40
LINKS = 5

Frames = Mapping[str, pd.DataFrame]


# -------------------------------------------------------------------------------------------------- escaping

_MARKS = re.compile(r"[\\`*_{}\[\]<>#|~&]")
_FIRST = re.compile(r"^([-+=]|\d+(?=[.)]))")
_ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
_JOINER = "\u2060"
"""Has no width. It keeps an address from becoming a link, which escaping does not."""

_TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Control characters that turn the direction of what follows, also beyond their text."""


def escaped(text: str) -> str:
    """One line of Markdown that shows the text; line breaks and runs of blanks become a blank."""
    line = " ".join("".join(map(_printable, text)).split())
    marked = _MARKS.sub(r"\\\g<0>", _ADDRESS.sub(_JOINER, line))
    return _FIRST.sub(lambda first: _escaped_first(first[0]), marked)


def _printable(character: str) -> str:
    if character.isspace():
        return " "
    bad = unicodedata.category(character) == "Cc" or unicodedata.bidirectional(character) in _TURNING
    return "\ufffd" if bad else character


def _escaped_first(mark: str) -> str:
    """What would begin a list or underline a heading. A number is kept apart from the dot after it."""
    return f"{mark}\\" if mark.isdecimal() else f"\\{mark}"


def cut(text: str, limit: int) -> str:
    """At most `limit` characters of the text, and how many were left out."""
    left = len(text) - limit
    return text if left <= 0 else f"{text[:limit]}… ({left:,} more characters)"


def quoted(text: str, limit: int) -> str:
    """A text as a Markdown quotation, with its own lines; of a longer one `limit` characters."""
    lines = [escaped(line) for line in re.split(r"\r\n?|[\n\v\f\x1c-\x1e\x85\u2028\u2029]", cut(text, limit))]
    return "\n>\n".join(f"> {line}" for line in lines if line) or "> (empty)"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; see `cell` for what its cells show."""
    head = [escaped(name) for name in columns]
    lines = [head, ["---"] * len(head), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    """A value in a table: short text, figures as they are, the size of bytes, nothing for what is unknown."""
    match value:
        case bytes():
            return f"{len(value):,} bytes"
        case float() if value == value:  # noqa: PLR0124 - not NaN
            return f"{value:.4g}"
        case str():
            return escaped(value if len(value) <= CELL else f"{value[: CELL - 1]}…")
    return "" if pd.isna(value) else escaped(str(value))  # type: ignore[call-overload]


# ------------------------------------------------------------------------------------------- rows of a table


def first_rows(rows: pd.DataFrame, total: int) -> str:
    """A preview of a table by its first rows, of which there are `total`."""
    if not total:
        return "no rows"
    shown = rows.head(ROWS)
    whole = table(list(shown.columns), shown.itertuples(index=False))
    return _and_more(whole, total - len(shown), "rows")


def _and_more(text: str, count: int, of: str) -> str:
    return f"{text}\n\n… and {count:,} more {of}" if count > 0 else text


# ---------------------------------------------------------------------------------------- people and texts


@dataclass(frozen=True)
class Card:
    """What is shown of one user.

    Attributes:
        user: who it is.
        texts: by their headings.
        items: what was rated, a row an item, in columns for people; None where the texts say all.
    """

    user: str
    texts: Mapping[str, str]
    items: pd.DataFrame | None = None


def cards(shown: Sequence[Card], users: int) -> str:
    """A preview by users, of whom there are so many."""
    if not shown:
        return "no rows"
    limit = PREVIEW // sum(len(card.texts) for card in shown)
    return _and_more("\n\n".join(_card(card, limit) for card in shown), users - len(shown), "users")


def _card(card: Card, limit: int) -> str:
    blocks = [f"### user {escaped(cut(card.user, CELL))}"]
    for heading, text in card.texts.items():
        blocks += [f"**{escaped(heading)}**", quoted(text, limit)]
    if card.items is not None and len(card.items):
        blocks.append(table(list(card.items.columns), card.items.itertuples(index=False)))
    return "\n\n".join(blocks)


def _people(rows: pd.DataFrame) -> pd.DataFrame:
    """The users of these rows, by id; ids of two domains may be equal."""
    return rows[["user_id", "domain"]].drop_duplicates().sort_values(["user_id", "domain"])


def _of(rows: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows with these values."""
    for column, value in values.items():
        rows = rows[rows[column] == value]
    return rows


def _text(row: "pd.Series[Any]", column: str = "persona") -> str:
    """The text in a column; where there is none, the reason."""
    return text_in(row[column]) or f"(none: {text_in(row['note']) or 'no reason known'})"


def _persona(frames: Frames, name: str, user: str, **values: object) -> str:
    """A user's persona in another table."""
    rows = _of(frames[name], user_id=user, **values) if name in frames else pd.DataFrame()
    return _text(rows.iloc[0]) if len(rows) else f"(none: {name} has no such row)"


def _items(
    frames: Frames, user: str, window: int, predictions: pd.DataFrame | None = None
) -> pd.DataFrame | None:
    """The items of a user's window: what was predicted of each, if anything was, and what was given."""
    if "rating_windows" not in frames:
        return None
    rows = _of(frames["rating_windows"], user_id=user, window=window).sort_values("place")
    columns = ["title", "rating"]
    if predictions is not None:
        own = _of(predictions, user_id=user, window=window)[["place", "predicted"]]
        rows = rows.merge(own, on="place", how="left")
        columns = ["title", "predicted", "rating"]
    return rows[columns].rename(columns={"title": f"window {window}", "rating": "given"})


# ------------------------------------------------------------------------------------ tables that hold texts


def _initial_personas(user: str, rows: pd.DataFrame, frames: Frames) -> Card:
    texts = {"persona S0, written from window 0": _text(rows.iloc[0])}
    return Card(user, texts, _items(frames, user, 0))


def _initial_predictions(user: str, rows: pd.DataFrame, frames: Frames) -> Card:
    texts = {"persona S0": _persona(frames, "initial_personas", user)}
    return Card(user, texts, _items(frames, user, 1, rows))


def _contexts(user: str, rows: pd.DataFrame, frames: Frames) -> Card:  # noqa: ARG001
    first = rows.iloc[0]
    return Card(user, {f"prompt to learn from window {first['round']}": _text(first, "prompt")})


def _candidates(user: str, rows: pd.DataFrame, frames: Frames) -> Card:
    context = {name: rows.iloc[0][name] for name in ("template", "recipe", "round") if name in rows}
    first = _of(rows, **context)
    texts = {f"old persona S{context['round'] - 1}": _persona(frames, "contexts", user, **context)}
    for row in first.head(2).to_dict("records"):
        use = f"unusable: {row['unusable']}" if text_in(row["unusable"]) else f"{row['copies']} times"
        texts[f"candidate {row['candidate']} of {len(first)}, {use}"] = row["persona"]
    return Card(user, texts)


def _preference_pairs(user: str, rows: pd.DataFrame, frames: Frames) -> Card:  # noqa: ARG001
    first = rows.iloc[0]
    texts = {
        f"{which}, reward {first[f'reward_{which}']:.2f}": first[which] for which in ("chosen", "rejected")
    }
    return Card(f"{user} of {first['domain']}", texts)


def _persona_rounds(user: str, rows: pd.DataFrame, frames: Frames) -> Card:  # noqa: ARG001
    ordered = rows.sort_values("round")
    ends = (ordered.iloc[place] for place in (0, -1))
    return Card(user, {f"persona S{row['round']}": _text(row) for row in ends})


def _round_predictions(user: str, rows: pd.DataFrame, frames: Frames) -> Card:
    last = rows.sort_values("round").iloc[-1]
    persona = _persona(frames, "persona_rounds", user, round=last["round"])
    items = _items(frames, user, last["window"], _of(rows, round=last["round"]))
    return Card(user, {f"persona S{last['round']}": persona}, items)


def _control_predictions(user: str, rows: pd.DataFrame, frames: Frames) -> Card:
    last = rows.sort_values("round").iloc[-1]
    other = text_in(last["persona_of"])
    stands = CONTROLS.get(last["control"], last["control"])
    if other is not None:
        persona = _persona(frames, "persona_rounds", other, round=last["round"])
        stands = f"of user {other}: {persona}"
    items = _items(frames, user, last["window"], _of(rows, round=last["round"]))
    return Card(user, {"in the persona's place": stands}, items)


def _persona_sets(user: str, rows: pd.DataFrame, frames: Frames) -> Card:
    last = _of(rows, window=rows["window"].max()).sort_values("persona")
    texts = {
        f"persona {row['persona']} after window {row['window']}, {row['state']}: {words_of(row, 'label')};"
        f" {figures_of(row)}": words_of(row, "description")
        for row in last.to_dict("records")
    }
    named = ("persona_memories", "memories", "memory_events", "events")
    if not all(name in frames for name in named):
        return Card(user, texts)
    members, memories, evidence, events = (_of(frames[name], user_id=user) for name in named)
    why = Why(last, _of(members, window=rows["window"].max()), memories, evidence, events, last.iloc[:0])
    rested = [
        evidence_of(why, number, MEMORIES).assign(persona=number) for number in last["persona"].astype(int)
    ]
    items = pd.concat(rested).head(EVENTS)
    columns = {"persona": "persona", "session": "session", "intent": "memory", "text": "event"}
    columns |= {"place": "from"} if items["place"].any() else {}
    return Card(user, texts, items[list(columns)].rename(columns=columns))


_TEXTS: Mapping[str, Callable[[str, pd.DataFrame, Frames], Card]] = {
    "initial_personas": _initial_personas,
    "initial_predictions": _initial_predictions,
    "contexts": _contexts,
    "candidates": _candidates,
    "preference_pairs": _preference_pairs,
    "persona_rounds": _persona_rounds,
    "persona_sets": _persona_sets,
    "round_predictions": _round_predictions,
    "control_predictions": _control_predictions,
}
"""How a user's rows are shown, by table without the number of its iteration."""


def preview(name: str, rows: pd.DataFrame, total: int, frames: Frames) -> str:
    """What people see of a partition.

    Args:
        name: of the table.
        rows: of the partition; the first are enough where the table holds no texts.
        total: how many rows the partition has.
        frames: by table, what it was made from, and what was made with it.

    Returns:
        Three users, where the table holds texts: persona, what was predicted from it, and what was given.
        Otherwise the first rows as a table.
    """
    show = _TEXTS.get(_stem(name))
    if show is None:
        return first_rows(rows, total)
    named = {_stem(other): frame for other, frame in frames.items()}
    people = _people(rows)
    shown = [
        show(user, _of(rows, user_id=user, domain=domain), named)
        for user, domain in people.head(PEOPLE).itertuples(index=False)
    ]
    return cards(shown, len(people))


def _stem(name: str) -> str:
    return re.sub(r"_[12]$", "", name)


# --------------------------------------------------------------------------------------- settings and inputs


def settings_table(settings: Mapping[str, Any]) -> str:
    """The values that made a partition, as a table of their parts; the first of very many."""
    if not settings:
        return "no settings"
    parts = [part for name, value in settings.items() for part in _parts(name, value)]
    return _and_more(table(["setting", "value"], parts[:SETTINGS]), len(parts) - SETTINGS, "settings")


def _parts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The parts of a value by their path; a list of plain values is one part."""
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _parts(f"{name}.{key}", part)
    elif isinstance(value, list | tuple) and any(isinstance(part, Mapping | list | tuple) for part in value):
        for place, part in enumerate(value):
            yield from _parts(f"{name}.{place}", part)
    elif isinstance(value, list | tuple):
        yield name, ", ".join(map(str, value))
    else:
        yield name, "" if value is None or value == {} else str(value)


def made_from(inputs: Iterable[tuple[str, str | None]]) -> str:
    """Links to the pages of what a partition was made from, a line a table; the first of very many.

    Args:
        inputs: tables and their partition keys as Dagster writes them; None of an unpartitioned table.
    """
    keys: dict[str, list[str]] = {}
    for name, key in inputs:
        keys.setdefault(name, []).extend([] if key is None else [key])
    return "\n".join(f"- {_links(name, sorted(of))}" for name, of in keys.items()) or "no table"


def _links(name: str, keys: Sequence[str]) -> str:
    page = f"/assets/{quote(name, safe='')}"
    if not keys:
        return f"[{escaped(name)}]({page})"
    links = [
        f"[{escaped(key)}]({page}?view=partitions&partition={quote(key, safe='')})" for key in keys[:LINKS]
    ]
    more = f" and {len(keys) - LINKS:,} more" if len(keys) > LINKS else ""
    return f"{escaped(name)}: {', '.join(links)}{more}"
