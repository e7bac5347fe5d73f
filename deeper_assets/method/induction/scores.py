"""How well sets of personas agree with planted ones, where the truth is known."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from deeper_assets.method.induction.sets import Inducer
from deeper_assets.method.statistics import bootstrap_mae


def planted_f1(found: Sequence[Collection[object]], planted: Sequence[Collection[object]]) -> float | None:
    """How well personas are found, 0 to 1, every one of them counted; None where there is and was none.

    Each found persona is matched with one planted persona at most, so that the F1 of their events adds up to
    the most; the score is twice that sum over the number of both. So one too many costs as much as one too
    few.

    Args:
        found: the events of each persona of a set.
        planted: the events of each planted persona.
    """
    from scipy.optimize import linear_sum_assignment

    if not found and not planted:
        return None
    if not found or not planted:
        return 0.0
    sets, truth = [set(one) for one in found], [set(one) for one in planted]
    agreement = np.array(
        [[2 * len(one & other) / max(len(one) + len(other), 1) for other in truth] for one in sets]
    )
    rows, columns = linear_sum_assignment(-agreement)
    return float(2 * agreement[rows, columns].sum() / (len(sets) + len(truth)))


def events_with_themes(log: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """Of each event, the planted persona that it belongs to: rows of planted_events.

    Args:
        log: user_id, happened_at, theme; nobody does two things at the same time.
        events: rows of `events` that were cut from it.
    """
    themes = log[["user_id", "happened_at", "theme"]]
    joined = events.merge(themes, "left", ["user_id", "happened_at"], validate="one_to_one")
    return joined[["domain", "user_id", "session", "event", "theme"]]


def planted_scores(
    sets: pd.DataFrame,
    members: pd.DataFrame,
    evidence: pd.DataFrame,
    events: pd.DataFrame,
    personas: pd.DataFrame,
    planted: pd.DataFrame,
    inducer: Inducer,
) -> pd.DataFrame:
    """How well the set of each person and window agrees with what holds by then: planted_scores rows.

    A planted persona holds after a window if it has begun and has not ended by the window's last event. Both
    sides have the events up to there.

    Args:
        sets: rows of persona_sets of a domain and inducer.
        members: rows of persona_memories.
        evidence: rows of memory_events.
        events: rows of `events`.
        personas: rows of planted_personas.
        planted: rows of planted_events; without any, there is nothing to score.
        inducer: whose sets.
    """
    columns = ["domain", "inducer", "user_id", "split", "window", "personas", "planted", "planted_f1"]
    if planted.empty:
        return pd.DataFrame(columns=columns)
    goes_on = sets.loc[sets["state"] != "ended", ["user_id", "window", "persona"]]
    cited = members.merge(goes_on).merge(evidence, "inner", ["domain", "user_id", "memory"])
    found = _events_by_set(cited)
    placed = planted.merge(events[["user_id", "session", "event", "window", "happened_at"]])
    lives = {user: own.set_index("theme") for user, own in personas.groupby("user_id")}
    rows = []
    for user, own in placed.groupby("user_id"):
        themes = lives.get(user, personas.iloc[:0].set_index("theme"))
        domain, split = own["domain"].iloc[0], events.loc[events["user_id"] == user, "split"].iloc[0]
        for window in range(int(own["window"].max()) + 1):
            so_far = own[own["window"] <= window]
            holds = holding(themes, so_far["happened_at"].max())
            truth = [
                set(zip(shown["session"], shown["event"], strict=True))
                for theme in holds.index
                for shown in [so_far[so_far["theme"] == theme]]
            ]
            induced = found.get((str(user), window), [])
            agreement = planted_f1(induced, truth)
            rows.append((domain, inducer, user, split, window, len(induced), len(holds), agreement))
    return pd.DataFrame(rows, columns=columns)


def holding(personas: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """The rows of planted_personas that have begun by this moment and have not ended."""
    over = personas["until"].notna() & (personas["until"] <= now)
    return personas[(personas["since"] <= now) & ~over]


def _events_by_set(rows: pd.DataFrame) -> dict[tuple[str, int], list[set[tuple[int, int]]]]:
    """The events (session, event) of each persona, by user and window of the set."""
    listed: dict[tuple[str, int], list[set[tuple[int, int]]]] = {}
    for _, own in rows.groupby(["user_id", "window", "persona"]):
        key = str(own["user_id"].iloc[0]), int(own["window"].iloc[0])
        listed.setdefault(key, []).append(set(zip(own["session"], own["event"], strict=True)))
    return listed


def induction_table(
    sets: pd.DataFrame,
    scores: pd.DataFrame,
    planted: pd.DataFrame,
    events: pd.DataFrame,
    inducers: Sequence[Inducer],
    seed: int,
) -> pd.DataFrame:
    """Every inducer after every window, over evaluation users of all domains: induction_table rows.

    Args:
        sets: rows of persona_sets.
        scores: rows of planted_scores.
        planted: rows of planted_personas.
        events: rows of `events`.
        inducers: those in force.
        seed: of the resampling of users within their domain.
    """
    users = events.loc[events["split"] == "eval", ["domain", "user_id", "window"]].drop_duplicates()
    goes_on = sets[sets["state"] != "ended"]
    counts = goes_on.groupby(["inducer", "domain", "user_id", "window"])["memories"].agg(
        personas="size", single=lambda memories: (memories == 1).sum()
    )
    every = users.merge(pd.DataFrame({"inducer": inducers}), "cross")
    every = every.merge(counts.reset_index(), "left").fillna({"personas": 0, "single": 0})
    has_any = set(zip(planted["domain"], planted["user_id"], strict=True))
    aimless = [key not in has_any for key in zip(every["domain"], every["user_id"], strict=True)]
    every["aimless"] = np.array(aimless, dtype=bool) & every["domain"].isin(scores["domain"])
    every = every.merge(scores[["inducer", "domain", "user_id", "window", "planted_f1"]], "left")
    every["planted_f1"] = every["planted_f1"].astype(float).where(~every["aimless"])
    table = every.groupby(["inducer", "window"]).agg(
        users=("user_id", "size"),
        personas=("personas", "mean"),
        all_personas=("personas", "sum"),
        single=("single", "sum"),
        scored=("planted_f1", "count"),
        aimless=("aimless", "sum"),
    )
    table["single"] = table["single"] / table.pop("all_personas").where(lambda number: number > 0)
    wandering = every[every["aimless"]].groupby(["inducer", "window"])["personas"].mean()
    table["aimless_personas"] = wandering.reindex(table.index)
    table = table.reset_index()
    measured = every[every["planted_f1"].notna()].rename(
        columns={"inducer": "method", "window": "round", "planted_f1": "error"}
    )
    means = pd.DataFrame(columns=["inducer", "window", "planted_f1", "planted_f1_low", "planted_f1_high"])
    if len(measured):
        means = bootstrap_mae(measured, seed).rename(
            columns={
                **{"method": "inducer", "round": "window", "mae": "planted_f1"},
                **{"low": "planted_f1_low", "high": "planted_f1_high"},
            }
        )[list(means.columns)]
    return table.merge(means.astype({"window": "int64"}), "left", ["inducer", "window"])
