"""Checks on memories and sets of personas: what a persona rests on has to be there."""

import pandas as pd
from dagster import AssetCheckResult

from deeper_assets.checks.personas import share_readable
from deeper_assets.declaring import check


@check("session_readings", blocking=True)
def sessions_readable(session_readings: pd.DataFrame, unreadable_limit: float) -> AssetCheckResult:
    """Most sessions could be read."""
    read = session_readings.assign(answer=session_readings["note"].isna().map({True: 1.0, False: None}))
    return share_readable(read, "answer", unreadable_limit)


@check("persona_memories", blocking=True)
def personas_have_evidence(
    persona_memories: pd.DataFrame,
    persona_sets: pd.DataFrame,
    memories: pd.DataFrame,
    memory_events: pd.DataFrame,
    events: pd.DataFrame,
) -> AssetCheckResult:
    """Every persona has memories, each memory has events, and all of them are there."""
    going_on = persona_sets[persona_sets["state"] != "ended"]
    dangling = {
        "personas without a memory": _without(going_on, persona_memories, [*_SET, "persona"]),
        "memories of no persona": _without(persona_memories, persona_sets, [*_SET, "persona"]),
        "memories that are not there": _without(persona_memories, memories, ["user_id", "memory"]),
        "memories without an event": _without(memories, memory_events, ["user_id", "memory"]),
        "events that are not there": _without(memory_events, events, ["user_id", "session", "event"]),
    }
    wrong = {what: number for what, number in dangling.items() if number}
    return AssetCheckResult(
        passed=not wrong,
        description="; ".join(f"{number} {what}" for what, number in wrong.items())
        or "all evidence is there",
        metadata=dangling,
    )


_SET = ("inducer", "user_id", "window")


def _without(rows: pd.DataFrame, others: pd.DataFrame, key: list[str]) -> int:
    """How many rows have no counterpart among the others."""
    merged = rows[key].merge(others[key].drop_duplicates(), "left", key, indicator=True)
    return int((merged["_merge"] == "left_only").sum())
