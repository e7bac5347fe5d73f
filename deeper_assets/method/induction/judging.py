"""What sampled sets are worth: their claims judged, and every component of the reward."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from deeper_assets.method.asking import ChatSetup
from deeper_assets.method.domains import Domain
from deeper_assets.method.induction import rewards as worth
from deeper_assets.method.induction.claims import Verdict, alignment_and_truthfulness, claims_of, judge
from deeper_assets.method.induction.clusters import Counts, Vectors, centres_of
from deeper_assets.method.induction.set_recipes import COMPONENTS, PLACE
from deeper_assets.method.induction.sets import Remembered
from deeper_assets.method.induction.writing import Written, parse_set, places_of

JUDGED = [*PLACE, "claim", "shown_by", "contradicted", "note", "model"]


def judged_claims(
    contexts: pd.DataFrame, candidates: pd.DataFrame, memories: pd.DataFrame, domain: Domain, chat: ChatSetup
) -> pd.DataFrame:
    """What the chat model says of every claim of the usable sets of a context, each asked once.

    Args:
        contexts: rows of set_contexts.
        candidates: rows of set_candidates.
        memories: rows of memories; the judge sees those until the context's window.
        domain: of what they are.
        chat: the judge.

    Returns:
        judged_claims rows; `shown_by` are numbers of memories, with commas between.
    """
    usable = _usable(contexts, candidates)
    held = {str(user): own.sort_values("memory") for user, own in memories.groupby("user_id")}
    asked, places = [], []
    for place, sets in usable.groupby(PLACE):
        user, window = str(sets["user_id"].iloc[0]), int(sets["window"].iloc[0])
        read = [parse_set(row["text"], int(row["groups"])) for row in sets.to_dict("records")]
        descriptions = [one.label.description for personas in read for one in personas]
        claims = {claim for description in descriptions for claim in claims_of(description)}
        known = held[user][held[user]["window"] <= window]
        places.append((place, known["memory"].to_list()))
        asked.append((sorted(claims), list(known["intent"])))
    rows = [
        (
            *place,
            claim,
            None if verdict is None else ",".join(str(numbers[one]) for one in sorted(verdict.shown_by)),
            None if verdict is None else int(verdict.contradicted),
            note,
            chat.model.name,
        )
        for (place, numbers), answers in zip(places, judge(chat, domain, asked), strict=True)
        for claim, (verdict, note) in answers.items()
    ]
    return pd.DataFrame(rows, columns=JUDGED).astype({"contradicted": "Int64"})


def set_rewards(
    contexts: pd.DataFrame,
    groups: pd.DataFrame,
    candidates: pd.DataFrame,
    judged: pd.DataFrame,
    users: Sequence[Remembered],
    reach: float,
) -> pd.DataFrame:
    """Every component of the reward of each set; NaN where it is unknown, and of unusable ones.

    Args:
        contexts: rows of set_contexts.
        groups: rows of set_groups.
        candidates: rows of set_candidates.
        judged: rows of judged_claims.
        users: all that is remembered of the domain's users; training users among them say what others do.
        reach: see `candidates_of`.
    """
    by_name = {user.user_id: user for user in users}
    trainers = [user for user in users if user.trains]
    verdicts = _verdicts(judged)
    members = dict(list(groups.groupby(PLACE)))
    after: dict[int, list[tuple[str, Vectors, Counts]]] = {}
    rows: list[tuple[Any, ...]] = []
    for place, own in _usable(contexts, candidates).groupby(PLACE):
        name, window = str(own["user_id"].iloc[0]), int(own["window"].iloc[0])
        user = by_name[name].up_to(window)
        shown = _shown(members[place], user)
        if window not in after:
            after[window] = [(one.user_id, *_next_window(one, window)) for one in trainers]
        others = [one[1:] for one in after[window] if one[0] != name and one[2].sum()]
        following = _next_window(by_name[name], window)
        for row in own.to_dict("records"):
            personas = parse_set(row["text"], len(shown))
            reward = _reward(user, personas, shown, following, others, verdicts.get(place, {}), reach)
            rows.append((*place, row["candidate"], *reward))
    made = pd.DataFrame(rows, columns=[*PLACE, "candidate", *COMPONENTS])
    return candidates[[*PLACE, "candidate"]].merge(made, "left", [*PLACE, "candidate"])


def _reward(
    user: Remembered,
    personas: Sequence[Written],
    shown: Sequence[Counts],
    following: tuple[Vectors, Counts],
    others: Sequence[tuple[Vectors, Counts]],
    verdicts: Mapping[str, Verdict | None],
    reach: float,
) -> tuple[float, ...]:
    """The components of one set, in their order."""
    places = places_of(personas, shown)
    centres = centres_of(user.vectors, places)
    is_known = following[1].sum() > 0  # of the next window, something could be read
    claims = [
        (claims_of(one.label.description), frozenset(map(int, user.memory[own])))
        for one, own in zip(personas, places, strict=True)
    ]
    return (
        worth.cohesion(user.vectors, places),
        worth.separation(user.vectors, places),
        *alignment_and_truthfulness(claims, verdicts),
        worth.lift(centres, following, others, reach) if is_known else np.nan,
        worth.recurrence(centres, following[0], reach) if is_known else np.nan,
    )


def _usable(contexts: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
    usable = candidates[candidates["unusable"].isna()]
    return usable.merge(contexts[[*PLACE, "groups"]], on=PLACE).sort_values([*PLACE, "candidate"])


def _verdicts(judged: pd.DataFrame) -> dict[Any, dict[str, Verdict | None]]:
    """By context and claim; the memories are numbers, as in the tables."""
    verdicts: dict[Any, dict[str, Verdict | None]] = {}
    for row in judged.to_dict("records"):
        shown = row["shown_by"]
        known = None
        if isinstance(shown, str):
            numbers = frozenset(int(number) for number in shown.split(",") if number)
            known = Verdict(numbers, bool(row["contradicted"]))
        verdicts.setdefault(tuple(row[name] for name in PLACE), {})[row["claim"]] = known
    return verdicts


def _shown(members: pd.DataFrame, user: Remembered) -> list[Counts]:
    """The groups of a context, by the places of their memories."""
    at = {int(number): place for place, number in enumerate(user.memory)}
    return [
        np.array([at[int(number)] for number in own["memory"]], dtype=np.int64)
        for _, own in members.sort_values(["group", "memory"]).groupby("group")
    ]


def _next_window(user: Remembered, window: int) -> tuple[Vectors, Counts]:
    then = user.at(np.flatnonzero(user.window == window + 1))
    return then.vectors, then.events
