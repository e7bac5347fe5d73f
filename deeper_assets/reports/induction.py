"""Several personas a person, as text for a terminal: the table of inducers, and why a persona is said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from deeper_assets.method.induction.next_items import RANKERS, RIVALS
from deeper_assets.method.induction.ranking import MEASURES
from deeper_assets.method.induction.sets import INDUCERS
from deeper_assets.reports.previews import table as as_table
from deeper_assets.reports.text import figure, interval

_PLACE = {"clusters": 0, **dict.fromkeys(INDUCERS[1:], 2)}
"""Controls stand last, and between them and clusters what policies write."""

MOST_MEMORIES = 3
"""Of a persona that are shown among others, the latest ones."""


def induction_as_text(table: pd.DataFrame, changes: pd.DataFrame) -> str:
    """The rows of induction_table after the last window, an inducer a line, and those of changes_table."""
    last = table[table["window"] == table["window"].max()]
    users, every = int(last["users"].max()), int(table["users"].max())
    those = f"{users} evaluation users" if users == every else f"{users} of {every} evaluation users have it"
    lines = [
        f"several personas a person: after window {last['window'].max()}, {those}",
        f"  {'':<16}  personas  one memory  planted F1          interval  of aimless people",
    ]
    inducers = sorted(last["inducer"], key=lambda name: (_PLACE.get(name, 1), name))
    for inducer in inducers:
        row = last[last["inducer"] == inducer].iloc[0]
        single, mean, aimless = (
            figure(row[name], form, unknown="-")
            for name, form in (("single", ".1%"), ("planted_f1", ".3f"), ("aimless_personas", ".2f"))
        )
        between = interval(row["planted_f1_low"], row["planted_f1_high"], ".3f", unknown="[-, -]")
        lines.append(
            f"  {inducer:<16}  {row['personas']:8.2f}  {single:>10}  {mean:>10}  {between:>16}  {aimless:>17}"
        )
    return "\n".join([*lines, *_changes(changes, inducers)])


def _changes(table: pd.DataFrame, inducers: Sequence[str]) -> list[str]:
    """How often planted changes are noticed, an inducer a line; nothing where none are known."""
    if table.empty:
        return []
    told = {"begins": "begin", "ends": "end", "stays": "stay, by one id"}
    lines = [f"planted personas noticed that  {'  '.join(f'{name:>24}' for name in told.values())}"]
    known = {(row["inducer"], row["change"]): row for row in table.to_dict("records")}
    for inducer in inducers:
        shown = [_noticed(known.get((inducer, change))) for change in told]
        lines.append(f"  {inducer:<27}  {'  '.join(f'{one:>24}' for one in shown)}")
    return lines


def _noticed(row: Mapping[Any, Any] | None) -> str:
    if row is None:
        return "-"
    between = interval(row["noticed_low"], row["noticed_high"], ".0%", unknown="[-, -]")
    return f"{row['noticed']:.0%} {between}"


_RANKING = (
    *("ranker", "Hit@10", "interval", "NDCG@10", "MRR"),
    *("over popularity", "interval", "over one persona", "interval", "by popularity"),
)


def next_items_as_text(table: pd.DataFrame) -> str:
    """The rows of next_items_table, a ranker a line; differences are those of Hit@10."""
    rows = [("", *_RANKING[1:]), *ranking_cells(table)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first = table.iloc[0]
    lines = [
        f"next items: {first['users']} evaluation users, {first['windows']} windows, the whole catalogue"
        f" ranked; {first['unseen']:.1%} of the items are not in it"
    ]
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join(["", name.ljust(widths[0]), *padded]).rstrip())
    return "\n".join(lines)


def next_items_as_markdown(table: pd.DataFrame) -> str:
    """The same as a Markdown table."""
    return as_table(_RANKING, ranking_cells(table)) if len(table) else "no rows"


def ranking_cells(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """The rows of next_items_table as text, a ranker a line, in the columns that people see."""
    by_name = {(row["ranker"], row["measure"]): row for row in table.to_dict("records")}
    lines = []
    for ranker in RANKERS:
        hit, *others = [by_name.get((ranker, measure)) for measure in MEASURES]
        if hit is not None:
            means = [figure(row["mean"]) for row in others if row is not None]
            beside = [cell for rival in RIVALS for cell in _with_interval(hit, f"over_{rival}")]
            own = interval(hit["low"], hit["high"])
            lines.append((ranker, figure(hit["mean"]), own, *means, *beside, f"{hit['fallback']:.1%}"))
    return lines


def _with_interval(row: Mapping[Any, Any], name: str) -> tuple[str, str]:
    between = interval(row[f"{name}_low"], row[f"{name}_high"], "+.3f", unknown="")
    return figure(row[name], "+.3f", unknown=""), between


@dataclass(frozen=True)
class Why:
    """What one set of personas of one user rests on.

    Attributes:
        sets: its rows of persona_sets.
        members: their rows of persona_memories.
        memories: the user's rows of memories.
        evidence: the user's rows of memory_events.
        events: the user's rows of `events`.
        dropped: the user's rows of dropped_personas for that window.
    """

    sets: pd.DataFrame
    members: pd.DataFrame
    memories: pd.DataFrame
    evidence: pd.DataFrame
    events: pd.DataFrame
    dropped: pd.DataFrame


def why_as_text(why: Why, persona: int | None) -> str:
    """Each persona with its figures, latest memories and their events; of `persona` alone, all of these."""
    sets = why.sets if persona is None else why.sets[why.sets["persona"] == persona]
    lines: list[str] = []
    for row in sets.sort_values("persona").to_dict("records"):
        lines += [
            f"persona {row['persona']} ({row['state']}): {_words(row, 'label')}",
            f"  {_words(row, 'description')}",
            f"  {row['share']:.0%} of what was read of this person, {row['chance']:.0%} of what was read of "
            f"others; p = {row['p_value']:.2g}; {row['memories']} memories in {row['sessions']} sessions",
        ]
        own = why.members.loc[why.members["persona"] == row["persona"], "memory"].sort_values()
        shown = own if persona is not None else own.tail(MOST_MEMORIES)
        if len(shown) < len(own):
            lines.append(f"  the latest {len(shown)} memories; all of them with --persona {row['persona']}")
        lines += [line for number in shown for line in _memory(why, number)]
    if persona is None and len(why.dropped):
        told = {
            "chance": "no more than chance",
            "once": "seen in one session",
            "alone": "with nobody to compare with",
        }
        counts = why.dropped["reason"].map(told).value_counts()
        lines.append("no personas: " + ", ".join(f"{number} {said}" for said, number in counts.items()))
    return "\n".join(lines)


def _words(row: Mapping[Any, Any], part: str) -> str:
    return row[part] if isinstance(row[part], str) else f"no words ({row['note'] or 'not asked for'})"


def _memory(why: Why, number: int) -> list[str]:
    memory = why.memories[why.memories["memory"] == number].iloc[0]
    cited = why.evidence.loc[why.evidence["memory"] == number, ["session", "event"]]
    lines = [f"  memory {number}, session {memory['session']}: {memory['intent']}"]
    for event in cited.merge(why.events, on=["session", "event"]).to_dict("records"):
        place = f"  ({event['file']}:{event['line']})" if isinstance(event["file"], str) else ""
        when = f"{event['happened_at']:%Y-%m-%d %H:%M}  " if pd.notna(event["happened_at"]) else ""
        lines.append(f"    {when}{event['text']}{place}")
    return lines
