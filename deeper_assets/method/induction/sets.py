"""Sets of personas: after every window, from a user's memories so far, with ids that last.

A persona keeps its id while more than half of its memories stay together. It ends when it is no more than
chance any longer, or when it has not shown for so many sessions that this is unlikely of one that goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.induction.clusters import (
    FEWEST_SESSIONS,
    Counts,
    Shares,
    Vectors,
    centres_of,
    clusters_of,
    design_effect,
    discovered,
    members_of,
    near_events,
    p_values,
)
from deeper_assets.method.json_pieces import is_wording
from deeper_assets.method.prompts import one_line
from deeper_assets.method.windows import stable_share

Inducer = str
"""How memories become personas: one of INDUCERS, or what a policy makes (`set_recipes.inducers_of`).

- clusters: those that are more than chance;
- every_cluster: all of them, chance or not;
- random_clusters: the sets of `clusters`, each persona with as many memories, dealt by chance;
- one_persona: all memories in one.
"""

INDUCERS = ("clusters", "every_cluster", "random_clusters", "one_persona")
"""Those that need no policy."""

RECENT = 2
"""The latest windows, in which a cluster may be more than chance while it is not over the whole history."""

UNLIKELY = 0.05
"""A persona that shows at its rate is silent as long as this with such a probability, or a lower one."""

State = Literal["new", "same", "changed", "ended"]


@dataclass(frozen=True)
class Remembered:
    """One user's memories, in order.

    Attributes:
        user_id: whose.
        trains: whether it is a training user; only what these did is what others are compared with.
        memory: its number.
        session: of each memory.
        window: of each memory.
        events: how many events each cites.
        vectors: memories × dimensions.
    """

    user_id: str
    trains: bool
    memory: Counts
    session: Counts
    window: Counts
    events: Counts
    vectors: Vectors

    def up_to(self, window: int) -> "Remembered":
        """What was remembered by the end of a window."""
        return self.at(np.flatnonzero(self.window <= window))

    def at(self, places: Counts) -> "Remembered":
        """The memories in these places."""
        return replace(
            self,
            memory=self.memory[places],
            session=self.session[places],
            window=self.window[places],
            events=self.events[places],
            vectors=self.vectors[places],
        )


Dropped = Literal["chance", "once", "alone", "left_out", "not_shown"]


@dataclass(frozen=True)
class Label:
    """What a persona is called, and what it says."""

    label: str
    description: str


LONGEST_LABEL, LONGEST_DESCRIPTION = 120, 2_000
"""In characters."""


def label_of(label: Any, description: Any) -> Label:
    """Both as text on one line.

    Raises:
        UnreadableAnswer: `no_label`; either is no wording, or too long.
    """
    if not is_wording(label, LONGEST_LABEL) or not is_wording(description, LONGEST_DESCRIPTION):
        raise UnreadableAnswer("no_label")
    return Label(one_line(label), one_line(description))


@dataclass(frozen=True)
class Candidate:
    """A group of one user's memories.

    Attributes:
        places: of its memories among the user's.
        sessions: in how many it shows.
        share: of the events that the user's memories cite, those that memories near it cite; NaN where it is
            not measured.
        chance: the same of other people, on average; NaN where there is nobody else.
        p_value: how likely that share is at this chance; NaN where either is.
        dropped: why it is no persona; None where it is one.
        label: what whoever made it calls it; None where nobody has yet.
    """

    places: Counts
    sessions: int
    share: float
    chance: float
    p_value: float
    dropped: Dropped | None
    label: Label | None = None


def remembered(
    memories: pd.DataFrame, evidence: pd.DataFrame, splits: Mapping[str, str], vectors: Vectors
) -> list[Remembered]:
    """The memories of each user, by user.

    Args:
        memories: rows of memories, by user and memory; `vectors` are theirs, in this order.
        evidence: rows of memory_events.
        splits: of each user.
        vectors: memories × dimensions.
    """
    # An event that several memories cite counts once, for the first of them.
    cited = evidence.sort_values("memory").drop_duplicates(["user_id", "session", "event"])
    numbers = {name: memories[name].to_numpy(np.int64) for name in ("memory", "session", "window")}
    keys = pd.MultiIndex.from_frame(memories[["user_id", "memory"]])
    counted = cited.groupby(["user_id", "memory"]).size()
    events: Counts = counted.reindex(keys, fill_value=0).to_numpy().astype(np.int64)
    everything = Remembered(
        "", False, numbers["memory"], numbers["session"], numbers["window"], events, vectors
    )
    return [
        replace(everything.at(np.asarray(places)), user_id=str(user), trains=splits[str(user)] == "train")
        for user, places in memories.groupby("user_id").indices.items()
    ]


def candidates_of(
    users: Sequence[Remembered],
    others: Sequence[Remembered],
    rate: float,
    reach: float,
    window: int,
    groups: Sequence[Sequence[Counts]] | None = None,
    beside: Sequence[Sequence[float]] | None = None,
) -> list[list[Candidate]]:
    """The clusters of each user's memories, each compared with what `others` did.

    Args:
        users: whose personas are looked for.
        others: those whom they are compared with, but for themselves.
        rate: of false discoveries among a user's personas.
        reach: cosine similarity from which memories are near; see `Embedder`.
        window: the last one that users have.
        groups: of each user, the places of memories that stand in for clusters; None: clusters.
        beside: of each user, p-values of what was tested too: who names few groups has not tested fewer.
    """
    if not users:
        return []
    if groups is None:
        groups = [members_of(clusters_of(user.vectors, reach)) for user in users]
    centres = [centres_of(user.vectors, own) for user, own in zip(users, groups, strict=True)]
    chances = _chances(users, centres, others, reach)
    effect = design_effect(
        [clusters_of(other.vectors, reach) for other in others],
        [other.session for other in others],
        [other.events for other in others],
    )
    found = []
    tested = beside if beside is not None else [()] * len(users)
    for user, members, middle, chance, other in zip(users, groups, centres, chances, tested, strict=True):
        near, done = near_events(middle, user.vectors, user.events, reach), int(user.events.sum())
        values = p_values(near, done, chance, effect)
        latest = user.events * (user.window > window - RECENT)
        if latest.sum() < done:
            now = near_events(middle, user.vectors, latest, reach)
            recent = p_values(now, int(latest.sum()), chance, effect)
            values = np.minimum(2 * np.minimum(values, recent), 1)
        every = np.nan_to_num(np.concatenate([values, other]), nan=1.0)
        real = discovered(every, rate)[: len(values)]
        sessions = [len(np.unique(user.session[places])) for places in members]
        found.append(
            [
                Candidate(
                    members[number],
                    sessions[number],
                    near[number] / max(done, 1),
                    chance[number],
                    values[number],
                    _dropped(sessions[number], bool(real[number]), bool(np.isnan(chance[number]))),
                )
                for number in range(len(middle))
            ]
        )
    return found


def _dropped(sessions: int, real: bool, alone: bool) -> Dropped | None:
    if alone:
        return "alone"
    if sessions < FEWEST_SESSIONS:
        return "once"
    return None if real else "chance"


def _chances(
    users: Sequence[Remembered], centres: Sequence[Vectors], others: Sequence[Remembered], reach: float
) -> list[Shares]:
    """Of each user's centres, the mean share of others' events near it; NaN where there is nobody else.

    It is never none: others together might have done it once.
    """
    ends = np.cumsum([len(one) for one in centres])
    everything = np.concatenate(centres)
    whose = np.repeat([user.user_id for user in users], [len(one) for one in centres])
    total, counted, done = (np.zeros(len(everything)) for _ in range(3))
    for other in others:
        own = int(other.events.sum())
        if own:
            foreign = whose != other.user_id
            total += foreign * near_events(everything, other.vectors, other.events, reach) / own
            counted += foreign
            done += foreign * own
    nobody = np.full(len(everything), np.nan)
    mean = np.divide(total, counted, out=nobody, where=counted > 0)
    return np.split(np.clip(mean, 1 / np.maximum(done, 1), 1.0), ends[:-1])


def personas_of(
    user: Remembered, found: Sequence[Candidate], inducer: Inducer
) -> tuple[list[Candidate], list[Candidate]]:
    """What an inducer keeps of a user's clusters, and what it drops; random ones are dealt afterwards."""
    if inducer == "every_cluster":
        return [_unmeasured(user, one.places) for one in found], []
    if inducer == "one_persona":
        return [_unmeasured(user, np.arange(len(user.memory)))] if len(user.memory) else [], []
    kept = [one for one in found if one.dropped is None]
    return kept, [one for one in found if one.dropped is not None]


def dealt(user: Remembered, candidates: Sequence[Candidate], seed: int) -> list[Candidate]:
    """As many memories for each candidate, dealt by chance: those that had none in common have none."""
    places = sorted(range(len(user.memory)), key=lambda place: stable_share(seed, user.user_id, place))
    mixed = np.array(places, dtype=np.int64)
    return [_unmeasured(user, np.sort(mixed[one.places])) for one in candidates]


def _unmeasured(user: Remembered, places: Counts) -> Candidate:
    sessions = len(np.unique(user.session[places]))
    return Candidate(places, sessions, np.nan, np.nan, np.nan, None)


@dataclass(frozen=True)
class Persona:
    """One row of a set: a persona of a user after a window, with its memories' places."""

    number: int
    state: State
    candidate: Candidate


@dataclass
class Lasting:
    """Gives personas ids that last from window to window, for one user."""

    last: dict[int, Candidate] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)

    def next_set(self, user: Remembered, kept: Sequence[Candidate], now: int) -> list[Persona]:
        """The set after the next window, whose last session is `now`: what is or has just ended, by id."""
        numbers = self._continued([_members(one) for one in kept])
        rows = []
        for one, number in zip(kept, numbers, strict=True):
            is_over = _is_over(np.unique(user.session[one.places]), now)
            if not is_over:
                rows.append(Persona(number, self._state(number, one), one))
            elif number in self.alive:
                rows.append(Persona(number, "ended", one))
            self.last[number] = one
            (self.alive.discard if is_over else self.alive.add)(number)
        for number in sorted(self.alive - set(numbers)):
            self.alive.discard(number)
            rows.append(Persona(number, "ended", self.last[number]))
        return sorted(rows, key=lambda row: row.number)

    def unchanged(self) -> list[Persona]:
        """The set after the next window where nobody says what has changed."""
        return [Persona(number, "same", self.last[number]) for number in sorted(self.alive)]

    def _state(self, number: int, one: Candidate) -> State:
        """Of a persona that is, what has come of it since the window before."""
        if number not in self.last:
            return "new"
        same = number in self.alive and _members(self.last[number]) == _members(one)
        return "same" if same else "changed"

    def _continued(self, held: Sequence[frozenset[int]]) -> list[int]:
        """Of each of these sets of memories, the id it has had, or the next one."""
        from scipy.optimize import linear_sum_assignment

        known = sorted(self.last)
        before = [_members(self.last[old]) for old in known]
        numbers: dict[int, int] = {}
        if known and held:
            shared = np.array([[len(old & new) for old in before] for new in held])
            size = np.array([len(old) for old in before])
            living = np.array([old in self.alive for old in known])
            # Of several that would go on as one, the largest does, and one that is rather than was.
            worth = np.where(2 * shared > size, shared + living * shared.max(), 0)
            for new, old in zip(*linear_sum_assignment(-worth), strict=True):
                if worth[new, old]:
                    numbers[int(new)] = known[old]
        following = max(known, default=-1) + 1
        for place in range(len(held)):
            if place not in numbers:
                numbers[place], following = following, following + 1
        return [numbers[place] for place in range(len(held))]


def _members(one: Candidate) -> frozenset[int]:
    """The places of its memories."""
    return frozenset(map(int, one.places))


def _is_over(sessions: Counts, now: int) -> bool:
    """Whether a persona that showed in these sessions has been silent for longer than is likely."""
    lasted = int(sessions[-1] - sessions[0]) + 1
    rate = len(sessions) / (lasted + 1)  # as if it had been silent once more: two of two are no certainty
    return bool((1 - rate) ** (now - int(sessions[-1])) < UNLIKELY)
