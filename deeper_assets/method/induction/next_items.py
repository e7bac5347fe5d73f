"""Next items: after each window of a person, the catalogue of the domain is ranked for the next window.

Personas rank an item by the nearest of them: by the cosine of the item to the mean direction of the persona's
memories. An item is the sum of what its text says and of what others were after who did something with it,
because many texts say nothing that is known. Beside personas stand floors without text, the same with one
persona, with clusters that are chance, and with the personas of a stranger; and the planted personas, where
there are any, as a ceiling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from deeper_assets.method.induction import rankers
from deeper_assets.method.induction.clusters import Vectors, centres_of, of_unit_length
from deeper_assets.method.induction.rankers import FLOORS, Likeness, Row
from deeper_assets.method.induction.ranking import MEASURES, Places, Scores
from deeper_assets.method.induction.scores import holding
from deeper_assets.method.induction.sets import Inducer
from deeper_assets.method.induction.turns import Turn, Turns, names_of
from deeper_assets.method.protocols import Embedder
from deeper_assets.method.statistics import bootstrap_difference, bootstrap_mae
from deeper_assets.method.windows import stable_hash

ALONE: Mapping[str, Inducer] = {"one_persona": "one_persona", "personas": "clusters"}
"""Ranker → whose personas rank, by nothing else."""

MIXED: Mapping[str, Inducer] = {
    "one_persona_popular": "one_persona",
    "personas_popular": "clusters",
    "every_cluster_popular": "every_cluster",
    "random_clusters_popular": "random_clusters",
    "stranger_popular": "clusters",
}
"""Ranker → whose personas are mixed with popularity; `stranger_popular` has those of another user."""

STRANGER, CEILING = "stranger_popular", "planted_popular"

RANKERS = (*FLOORS, *ALONE, *MIXED, CEILING)

COLUMNS = (
    *("domain", "ranker", "user_id", "window", "catalogue", "items", "unseen", "fallback"),
    *("temperature", *MEASURES),
)

RIVALS = ("popularity", "one_persona_popular")
"""Rankers that every other one is compared with."""

SUMMARY = (
    *("ranker", "measure", "users", "windows", "mean", "low", "high"),
    *(f"over_{rival}{end}" for rival in RIVALS for end in ("", "_low", "_high")),
    *("unseen", "fallback"),
)

Centres = Mapping[tuple[str, int], Vectors]
"""Of a user and window, the personas of the set after it."""


def next_item_scores(
    turns: Turns,
    events: pd.DataFrame,
    memories: pd.DataFrame,
    evidence: pd.DataFrame,
    members: pd.DataFrame,
    embedder: Embedder,
    domain: str,
) -> pd.DataFrame:
    """How each ranker ranks what evaluation users do next: rows of next_item_scores.

    Args:
        turns: of the domain.
        events: rows of `events`, which the turns are of.
        memories: rows of memories.
        evidence: rows of memory_events.
        members: rows of persona_memories, of all inducers.
        embedder: of items and memories alike; it learns from what others remembered before the moment that
            cuts the domain.
        domain: its name.
    """
    learned = memories.merge(turns.learned)["intent"]
    vectors = embedder.embed([*memories["intent"], *turns.texts], list(learned))
    own, texts = vectors[: len(memories)], vectors[len(memories) :]
    items = Items.of(turns, events, memories.assign(at=range(len(memories))), evidence, own, texts)
    centres = {inducer: _centres(rows, memories, own) for inducer, rows in members.groupby("inducer")}

    # Turns of a user come one after another.
    @lru_cache(maxsize=1)
    def items_for(user: str) -> Vectors:
        return items.without(user)

    def likeness(inducer: Inducer, others: Mapping[tuple[str, int], str] | None = None) -> Likeness:
        sets: Centres = centres.get(inducer, {})

        def like(turn: Turn) -> Scores | None:
            key = turn.user_id, turn.window
            whose = key[0] if others is None else others.get(key)
            personas = sets.get((str(whose), turn.window))
            return None if personas is None else rankers.nearest(personas, items_for(turn.user_id))

        return like

    given = strangers([*turns.practice, *turns.asked], domain)
    mixed = {name: likeness(inducer, given if name == STRANGER else None) for name, inducer in MIXED.items()}
    alone = {name: likeness(inducer) for name, inducer in ALONE.items()}
    return frame_of(rankers.rank(turns, alone, mixed, FLOORS), domain)


@dataclass(frozen=True)
class Items:
    """What items are about.

    Attributes:
        texts: what the text of each says: items × dimensions.
        place: of each memory of others that rests on an item: the item.
        user: the same: whose memory.
        memory: the same: its vector.
    """

    texts: Vectors
    place: Places
    user: npt.NDArray[np.str_]
    memory: Vectors

    @classmethod
    def of(
        cls,
        turns: Turns,
        events: pd.DataFrame,
        memories: pd.DataFrame,
        evidence: pd.DataFrame,
        vectors: Vectors,
        texts: Vectors,
    ) -> "Items":
        """The items of a domain; of memories, which have their place `at` in `vectors`, those of others."""
        event, memory = ["user_id", "session", "event"], ["user_id", "memory"]
        named = events[event].assign(item=names_of(events))
        shown = (
            evidence.merge(turns.learned).merge(named, on=event).merge(memories[[*memory, "at"]], on=memory)
        )
        place: Places = np.searchsorted(turns.items, shown["item"].to_numpy(dtype=str)).astype(np.int64)
        return cls(texts, place, shown["user_id"].to_numpy(dtype=str), vectors[shown["at"]])

    def without(self, user: str) -> Vectors:
        """Each item without what this user remembered of it: of length 1, or of 0 where nothing is known."""
        sums, others = self.texts.copy(), self.user != user
        np.add.at(sums, self.place[others], self.memory[others])
        return of_unit_length(sums)


def _centres(members: pd.DataFrame, memories: pd.DataFrame, vectors: Vectors) -> Centres:
    """The centres of one inducer's personas, by user and window."""
    at = memories.assign(at=range(len(memories)))[["user_id", "memory", "at"]]
    placed = members.merge(at, "inner", ["user_id", "memory"])
    indices = placed.groupby(["user_id", "window", "persona"]).indices
    groups = cast("Mapping[tuple[str, int, int], Places]", indices)
    centres = centres_of(vectors[placed["at"]], list(groups.values()))
    held: dict[tuple[str, int], list[Vectors]] = {}
    for (user, window, _), centre in zip(groups, centres, strict=True):
        held.setdefault((user, int(window)), []).append(centre)
    return {key: np.stack(own) for key, own in held.items()}


def strangers(turns: Sequence[Turn], domain: str) -> dict[tuple[str, int], str]:
    """For each user and window another user of the same kind, whose set after that window is lent.

    The users of a window stand in a circle, in the order of a hash of domain and user, and everybody is lent
    the set of the next one, empty or not. So each set is lent once, and nobody has their own. Whoever is
    alone has none.
    """
    lent: dict[tuple[str, int], str] = {}
    for evaluated, window in sorted({(turn.evaluated, turn.window) for turn in turns}):
        users = {turn.user_id for turn in turns if (turn.evaluated, turn.window) == (evaluated, window)}
        circle = sorted(users, key=lambda user: (stable_hash(STRANGER, domain, user), user))
        if len(circle) > 1:
            lent |= {
                (user, window): other for user, other in zip(circle, [*circle[1:], circle[0]], strict=True)
            }
    return lent


def planted_next_items(
    turns: Turns, events: pd.DataFrame, personas: pd.DataFrame, planted: pd.DataFrame, domain: str
) -> pd.DataFrame:
    """How the planted personas that hold after a window rank what comes next: rows of planted_next_items.

    An item is like a user if its theme is one of theirs. Its theme is that of most events of others with it.

    Args:
        turns: of the domain.
        events: rows of `events`.
        personas: rows of planted_personas.
        planted: rows of planted_events; without any, nothing is ranked.
        domain: its name.
    """
    shown = planted.merge(events.assign(item=names_of(events)), "inner", ["user_id", "session", "event"])
    themes = _themes(shown.merge(turns.learned), turns.items)
    lives = dict(list(personas.groupby("user_id")))

    def like(turn: Turn) -> Scores | None:
        now = holding(lives.get(turn.user_id, personas[:0]), turn.now)
        return np.isin(themes, list(now["theme"])).astype(np.float64) if len(now) else None

    asked = turns if len(planted) else replace(turns, asked=[])
    return frame_of(rankers.rank(asked, {}, {CEILING: like}, ()), domain)


def _themes(shown: pd.DataFrame, items: Sequence[str]) -> npt.NDArray[np.str_]:
    """Of each item the theme that most of these events show; none of an item that shows none."""
    counted = shown.groupby(["item", "theme"]).size().rename("events").reset_index()
    first = counted.sort_values(["events", "theme"], ascending=[False, True]).drop_duplicates("item")
    return np.array(first.set_index("item")["theme"].reindex(list(items)).fillna("").tolist(), dtype=str)


def frame_of(rows: Sequence[Row], domain: str) -> pd.DataFrame:
    """Rows as a table: COLUMNS, by user, window and ranker."""
    table = [
        (
            *(domain, row.ranker, row.turn.user_id, row.turn.window, row.catalogue, len(row.turn.ahead)),
            *(row.unseen, int(row.fallback), row.temperature, *row.measured),
        )
        for row in rows
    ]
    frame = pd.DataFrame(table, columns=list(COLUMNS))
    return frame.astype({"temperature": "float64"}).sort_values(
        ["user_id", "window", "ranker"], ignore_index=True
    )


def next_items_table(scores: pd.DataFrame, planted: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Every ranker and measure over evaluation users of all domains: rows of next_items_table.

    A user has the mean over their windows, a domain the mean over its users, and the figure is the mean over
    domains. Differences are of the same users.

    Args:
        scores: rows of next_item_scores.
        planted: rows of planted_next_items.
        seed: of the resampling of users within their domain.
    """
    asked = scores[["domain", "user_id", "window"]].drop_duplicates()
    every = pd.concat([rows for rows in (scores, planted.merge(asked)) if len(rows)] or [scores])
    if every.empty:
        return pd.DataFrame(columns=list(SUMMARY))
    shares = every.groupby("ranker").agg(
        windows=("window", "size"),
        items=("items", "sum"),
        unseen=("unseen", "sum"),
        fallback=("fallback", "mean"),
    )
    shares["unseen"] = shares["unseen"] / shares.pop("items")
    # A window of which no item is ranked has no measure; neither has a domain of such windows.
    every = every.dropna(subset=list(MEASURES))
    if every.empty:
        return pd.DataFrame(columns=list(SUMMARY))
    shares["windows"] = every.groupby("ranker").size()
    means = every.groupby(["domain", "ranker", "user_id"])[list(MEASURES)].mean().reset_index()
    errors = means.rename(columns={"ranker": "method"}).melt(
        ["domain", "method", "user_id"], var_name="round", value_name="error"
    )
    table = bootstrap_mae(errors, seed).drop(columns=["trainings", "training_sd"])
    for rival in RIVALS:
        beside = bootstrap_difference(errors, rival, seed).drop(columns=["against", "users"])
        names = {"difference": f"over_{rival}", "low": f"over_{rival}_low", "high": f"over_{rival}_high"}
        table = table.merge(beside.rename(columns=names), "left", ["method", "round"])
    table = table.rename(columns={"method": "ranker", "round": "measure", "mae": "mean"})
    return table.merge(shares.reset_index(), on="ranker")[list(SUMMARY)]
