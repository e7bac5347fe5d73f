"""Several personas a person, as text for a terminal: the table of inducers, and why a persona is said."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from deeper_assets.method.induction.sets import INDUCERS
from deeper_assets.reports.text import figure, interval

MOST_MEMORIES = 3
"""Of a persona that are shown among others, the latest ones."""


def induction_as_text(table: pd.DataFrame) -> str:
    """The rows of induction_table after the last window, an inducer a line."""
    last = table[table["window"] == table["window"].max()]
    users, every = int(last["users"].max()), int(table["users"].max())
    those = f"{users} evaluation users" if users == every else f"{users} of {every} evaluation users have it"
    lines = [
        f"several personas a person: after window {last['window'].max()}, {those}",
        f"  {'':<16}  personas  one memory  planted F1          interval  of aimless people",
    ]
    for inducer in sorted(last["inducer"], key=list[str](INDUCERS).index):
        row = last[last["inducer"] == inducer].iloc[0]
        single, mean, aimless = (
            figure(row[name], form, unknown="-")
            for name, form in (("single", ".1%"), ("planted_f1", ".3f"), ("aimless_personas", ".2f"))
        )
        between = interval(row["planted_f1_low"], row["planted_f1_high"], ".3f", unknown="[-, -]")
        lines.append(
            f"  {inducer:<16}  {row['personas']:8.2f}  {single:>10}  {mean:>10}  {between:>16}  {aimless:>17}"
        )
    return "\n".join(lines)


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
        kind = event["kind"] if isinstance(event["kind"], str) and event["kind"] != "rating" else ""
        lines.append(f"    {when}{kind}{': ' if kind else ''}{event['text']}{place}")
    return lines
