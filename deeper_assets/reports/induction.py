"""Several personas a person, as text for a terminal: the table of inducers, and why a persona is said."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from deeper_assets.method.induction.events import RATING
from deeper_assets.method.induction.sets import INDUCERS, Inducer
from deeper_assets.reports.text import figure, interval

_PLACE = {"clusters": 0, **{name: 1 + number for number, name in enumerate(INDUCERS) if number}}
"""Controls stand last, and between them and clusters what policies write."""

INDUCER: Inducer = "clusters"
"""Whose personas are shown: the others are controls, and have no words."""

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
    inducers = in_order(last["inducer"])
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


def in_order(inducers: Iterable[str]) -> list[str]:
    """Clusters first, then what policies write, and controls last."""
    return sorted(inducers, key=lambda name: (_PLACE.get(name, 1), name))


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
    if row is None or pd.isna(row["noticed"]):
        return "-"
    between = interval(row["noticed_low"], row["noticed_high"], ".0%", unknown="[-, -]")
    return f"{row['noticed']:.0%} {between}"


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


@dataclass(frozen=True)
class Person:
    """A user of a domain, and what the personas after a window rest on."""

    domain: str
    user: str
    window: int
    why: Why


def why_as_text(why: Why, persona: int | None) -> str:
    """Each persona with its figures, latest memories and their events; of `persona` alone, all of these."""
    sets = why.sets if persona is None else why.sets[why.sets["persona"] == persona]
    lines: list[str] = []
    for row in sets.sort_values("persona").to_dict("records"):
        lines += [
            f"persona {row['persona']} ({row['state']}): {words_of(row, 'label')}",
            f"  {words_of(row, 'description')}",
            f"  {figures_of(row)}",
        ]
        own = int((why.members["persona"] == row["persona"]).sum())
        most = MOST_MEMORIES if persona is None else own
        if most < own:
            lines.append(f"  the latest {most} memories; all of them with --persona {row['persona']}")
        lines += _memories(evidence_of(why, row["persona"], most))
    if persona is None and len(why.dropped):
        told = {
            "chance": "no more than chance",
            "once": "seen in one session",
            "alone": "with nobody to compare with",
            "left_out": "left out by the policy",
            "not_shown": "not shown to the policy",
        }
        counts = why.dropped["reason"].map(told).value_counts()
        lines.append("no personas: " + ", ".join(f"{number} {said}" for said, number in counts.items()))
    return "\n".join(lines)


def evidence_of(why: Why, persona: int, most: int | None = None) -> pd.DataFrame:
    """The events that a persona rests on, a row an event of a memory.

    Args:
        why: of the user.
        persona: its id.
        most: of its memories, the latest so many; None for all.

    Returns:
        memory, session, intent, happened_at, text (what was done stands before it, unless it was rated) and
        place (`file:line`; empty where the source has none).
    """
    own = why.members.loc[why.members["persona"] == persona, "memory"].sort_values()
    shown = own if most is None else own.tail(most)
    rows = why.memories.loc[why.memories["memory"].isin(shown), ["memory", "session", "intent"]]
    rows = rows.merge(why.evidence[["memory", "session", "event"]], on=["memory", "session"])
    events = why.events[["session", "event", "happened_at", "kind", "text", "file", "line"]]
    rows = rows.merge(events, on=["session", "event"]).sort_values(["memory", "event"], ignore_index=True)
    kinds = rows.pop("kind")
    done = kinds.where(kinds.notna() & (kinds != RATING), "")
    rows["text"] = [
        f"{kind}: {text}" if kind else text for kind, text in zip(done, rows["text"], strict=True)
    ]
    places = zip(rows.pop("file"), rows.pop("line"), strict=True)
    rows["place"] = [f"{file}:{int(line)}" if isinstance(file, str) else "" for file, line in places]
    return rows.drop(columns="event")


def figures_of(row: Mapping[Any, Any]) -> str:
    """The figures of a row of persona_sets in words; those that were not measured are left out."""
    counted = f"{row['memories']} memories in {row['sessions']} sessions"
    if pd.isna(row["share"]) or pd.isna(row["chance"]):
        return counted
    return (
        f"{row['share']:.0%} of what was read of this person, {row['chance']:.0%} of what was read of others;"
        f" p = {row['p_value']:.2g}; {counted}"
    )


def words_of(row: Mapping[Any, Any], part: str) -> str:
    """The label or description of a row of persona_sets, or why there is none."""
    return row[part] if isinstance(row[part], str) else f"no words ({row['note'] or 'not asked for'})"


def moment_of(happened_at: Any) -> str:
    """When, UTC, to the minute; empty where it is not known."""
    return f"{happened_at:%Y-%m-%d %H:%M}" if pd.notna(happened_at) else ""


def _memories(rows: pd.DataFrame) -> list[str]:
    lines = []
    for _, of_memory in rows.groupby("memory"):
        first = of_memory.iloc[0]
        lines.append(f"  memory {first['memory']}, session {first['session']}: {first['intent']}")
        for event in of_memory.to_dict("records"):
            when = f"{moment}  " if (moment := moment_of(event["happened_at"])) else ""
            place = f"  ({event['place']})" if event["place"] else ""
            lines.append(f"    {when}{event['text']}{place}")
    return lines
