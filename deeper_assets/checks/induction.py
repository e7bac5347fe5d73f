"""Checks on memories and sets of personas: what a persona rests on has to be there."""

from shlex import quote

import pandas as pd
from dagster import AssetCheckResult

from deeper_assets.checks.histories import unaccounted
from deeper_assets.checks.personas import share_readable
from deeper_assets.declaring import check
from deeper_assets.method.domains import Domain
from deeper_assets.method.induction.rejects import why_nobody_has_events
from deeper_assets.method.rejects import counted_by_reason
from deeper_assets.method.windows import UserSampling
from deeper_assets.store.rejects import EVENT_REJECTS_ADDED_UP
from deeper_assets.store.relation import Relation
from deeper_assets.store.warehouse import Warehouse


@check("events", blocking=True)
def someone_has_events(
    events: pd.DataFrame,
    rejected_events: Relation,
    domain: Domain,
    user_sampling: UserSampling,
    warehouse: Warehouse,
) -> AssetCheckResult:
    """There is an evaluation user with events; without one, every table after this would say nothing."""
    users = events.loc[events["split"] == "eval", "user_id"].nunique()
    description = f"{users} evaluation users"
    if not users:
        counts = rejected_events.ask(counted_by_reason("stored", "events"))
        why = why_nobody_has_events(events, counts, user_sampling)
        command = f"deeper rejects --domain {domain.name} --home {quote(str(warehouse.path.parent))}"
        description += f": {why}; `{command}` shows what fell out"
    return AssetCheckResult(passed=bool(users), description=description, metadata={"evaluation users": users})


@check("events", blocking=True)
def events_accounted_for(
    events: pd.DataFrame, rejected_events: Relation, event_accounts: pd.DataFrame
) -> AssetCheckResult:
    """Every user and event of a log is used, rejected with a reason, not sampled, or left over."""
    if event_accounts.empty:
        return AssetCheckResult(passed=True, description="no log of one's own")
    accounts = {row["part"]: (row["users"], row["events"]) for row in event_accounts.to_dict("records")}
    [rejected] = rejected_events.ask(EVENT_REJECTS_ADDED_UP).itertuples(index=False, name=None)
    counted = {"used": (events["user_id"].nunique(), len(events)), "rejected": rejected}
    lost = unaccounted(accounts, counted)
    users, number = accounts["read"]
    description = f"{users} users with {number} events, {counted['used'][0]} used"
    if lost:
        description += f"; these do not add up: {', '.join(lost)}"
    return AssetCheckResult(
        passed=not lost, description=description, metadata={"users": users, "events": number}
    )


@check("session_readings", blocking=True)
def sessions_readable(session_readings: pd.DataFrame, unreadable_limit: float) -> AssetCheckResult:
    """Most sessions could be read."""
    read = session_readings.assign(answer=session_readings["note"].isna().map({True: 1.0, False: None}))
    return share_readable(read, "answer", unreadable_limit)


@check("set_candidates", blocking=True)
def sets_usable(set_candidates: pd.DataFrame, unreadable_limit: float) -> AssetCheckResult:
    """Most sets that are sampled for training could be read."""
    rows = set_candidates.assign(
        set=set_candidates["text"].where(set_candidates["unusable"].isna()), note=set_candidates["unusable"]
    )
    return share_readable(rows, "set", unreadable_limit)


@check("judged_claims", blocking=True)
def claims_judged(judged_claims: pd.DataFrame, unreadable_limit: float) -> AssetCheckResult:
    """Of most claims there is a verdict."""
    return share_readable(judged_claims, "shown_by", unreadable_limit)


@check("set_writings", blocking=True)
def sets_readable(set_writings: pd.DataFrame, unreadable_limit: float) -> AssetCheckResult:
    """Most sets that a policy wrote could be read; one that could not is not an empty set."""
    rows = set_writings.assign(set=set_writings["text"].where(set_writings["note"].isna()))
    return share_readable(rows, "set", unreadable_limit)


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
