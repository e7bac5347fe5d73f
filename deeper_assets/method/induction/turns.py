"""What rankers of next items may know: what others have done, and what each user has done before a window.

Others are the training users; where nobody trains, everybody but the user who is asked about. Where events
have times, one moment cuts the domain: rankers learn from what came before it, and are asked about windows
that begin after it. It is the median time of the others' events. Without times there is no such moment, and
the split of users alone keeps what is learned apart from what is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from deeper_assets.method.induction.events import RATING
from deeper_assets.method.induction.ranking import Places, Scores
from deeper_assets.method.windows import stable_hash

MOST_PRACTICE = 500
"""Turns of others by which rankers choose how they mix; of more, these by a hash."""


@dataclass(frozen=True)
class Turn:
    """A user after a window: what they have done so far, and what they do in the next window.

    Attributes:
        user_id: whose.
        evaluated: whether it is an evaluation user.
        window: the last one that is known.
        now: when it ended; NaT where events have no times.
        so_far: the item of each event up to its end, in order.
        ahead: the items of the next window, each once.
    """

    user_id: str
    evaluated: bool
    window: int
    now: pd.Timestamp
    so_far: Places
    ahead: Places


@dataclass(frozen=True)
class Crowd:
    """What others have done.

    Attributes:
        rows: user → row of `counts`.
        counts: how often each did something with each item, users × items (scipy.sparse.csr_array).
    """

    rows: Mapping[str, int]
    counts: Any

    @cached_property
    def every(self) -> Scores:
        """Events of everybody, by item."""
        return np.asarray(self.counts.sum(axis=0), dtype=np.float64)

    @cached_property
    def had(self) -> Any:
        """Who did anything with which item, 1 or nothing: users × items."""
        return self.counts.astype(bool).astype(np.float64)

    def popularity(self, user: str) -> Scores:
        """Events of everybody but this user, by item."""
        return self.every - self.own(user)

    def own(self, user: str) -> Scores:
        """This user's events among them, by item: none of a user who is not there."""
        row = self.rows.get(user)
        if row is None:
            return np.zeros(self.counts.shape[1])
        return np.asarray(self.counts[[row]].toarray()[0], dtype=np.float64)


@dataclass(frozen=True)
class Turns:
    """What is learned from, and what is asked, in one domain.

    Attributes:
        items: their ids, where there are such, and else their texts.
        texts: of each item.
        crowd: what others have done.
        once: whether an item comes once a user, as ratings do; then what was had is not ranked.
        practice: turns of others, which say how a ranker mixes best.
        asked: turns of evaluation users.
        learned: the sessions of others that may be learned from: user_id, session.
    """

    items: Sequence[str]
    texts: Sequence[str]
    crowd: Crowd
    once: bool
    practice: Sequence[Turn]
    asked: Sequence[Turn]
    learned: pd.DataFrame


def turns_of(events: pd.DataFrame) -> Turns:
    """The turns of a domain: rows of `events`, in any order."""
    events = events.sort_values(["user_id", "session", "event"]).reset_index(drop=True)
    items, place = np.unique(names_of(events).to_numpy(dtype=str), return_inverse=True)
    events = events.assign(place=place, known=_others(events))
    moment = moment_of(events)
    events["early"] = moment is None or events["happened_at"] < moment
    events["late"] = moment is None or events["happened_at"] >= moment
    taught = events[events["known"] & events["early"]]
    whole = events[events["known"]].groupby(["user_id", "session"])["early"].all()
    practice, asked = [], []
    for _, own in events.groupby("user_id", sort=False):
        teaches, evaluated = bool(own["known"].iloc[0]), own["split"].iloc[0] == "eval"
        early, late = own["early"].to_numpy(), own["late"].to_numpy()
        for turn, ahead in _turns_of_user(own, evaluated):
            # Sessions that a log names may overlap: then the next window is not all to come.
            if not own["happened_at"].iloc[ahead].min() >= turn.now and moment is not None:
                continue
            if teaches and early[ahead].all():
                practice.append(turn)
            if evaluated and late[ahead].all():
                asked.append(turn)
    return Turns(
        list(items),
        _texts(taught, list(items)),
        _crowd(taught, len(items)),
        bool((events["kind"] == RATING).all()),
        _some(practice),
        asked,
        whole[whole].index.to_frame(index=False),
    )


def _texts(taught: pd.DataFrame, items: Sequence[str]) -> list[str]:
    """What others called each item, by then: one of their texts. What nobody had then has its name alone."""
    named = taught.groupby("place")["text"].min()
    return [str(named.get(place, name)) for place, name in enumerate(items)]


def names_of(events: pd.DataFrame) -> "pd.Series[str]":
    """What the item of each event is known by: its id, or where the source has none, its text."""
    return events["item_id"].where(events["item_id"].notna(), events["text"])


def moment_of(events: pd.DataFrame) -> pd.Timestamp | None:
    """The moment that cuts a domain: the median time of the others' events; None where one has no time."""
    times = events.loc[_others(events), "happened_at"].sort_values()
    if events["happened_at"].isna().any() or not len(times):
        return None
    median: pd.Timestamp = times.iloc[len(times) // 2]
    return median


def _others(events: pd.DataFrame) -> "pd.Series[bool]":
    """Which events are of those from whom rankers learn: training users, or where nobody trains, all."""
    trains = events["split"] == "train"
    return trains if trains.any() else trains | True


def _turns_of_user(own: pd.DataFrame, evaluated: bool) -> Iterator[tuple[Turn, slice]]:
    """A user's turns, each with the places of the events of its next window."""
    user, place = str(own["user_id"].iloc[0]), own["place"].to_numpy(np.int64)
    latest = own["happened_at"].cummax()
    numbers, starts = np.unique(own["window"], return_index=True)
    for number, start, end in zip(numbers, starts[1:], [*starts[2:], len(own)], strict=False):
        ahead = slice(int(start), int(end))
        turn = Turn(
            user, evaluated, int(number), latest.iloc[start - 1], place[:start], np.unique(place[ahead])
        )
        yield turn, ahead


def _some(turns: Sequence[Turn]) -> list[Turn]:
    """At most MOST_PRACTICE of them, in their order."""
    places = sorted(range(len(turns)), key=lambda at: stable_hash(turns[at].user_id, turns[at].window))
    return [turns[at] for at in sorted(places[:MOST_PRACTICE])]


def _crowd(events: pd.DataFrame, items: int) -> Crowd:
    from scipy.sparse import csr_array

    users, row = np.unique(events["user_id"].to_numpy(dtype=str), return_inverse=True)
    ones = np.ones(len(events), dtype=np.int64)
    counts = csr_array((ones, (row, events["place"].to_numpy())), shape=(len(users), items))
    return Crowd({str(user): number for number, user in enumerate(users)}, counts)
