"""Persona sets of a domain: clusters of memories after every window, with ids that last, labelled.

A set is written from memories of the windows up to its own, and compared with all that training users did.
Where nobody trains, it is compared with what the others had done by then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pandas as pd

from deeper_assets.method.asking import ChatSetup, Reply, ask
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.induction.sets import (
    Candidate,
    Inducer,
    Label,
    Lasting,
    Persona,
    Remembered,
    candidates_of,
    dealt,
    label_of,
    personas_of,
    remembered,
)
from deeper_assets.method.json_pieces import fields_of, json_text, pieces_of
from deeper_assets.method.protocols import Embedder

MOST_MEMORIES = 60
"""That a label is written from, the latest ones."""

LABELLED = ("clusters",)
"""Inducers whose personas the chat model labels. A policy does so itself; controls get no words."""

SETS = ("domain", "inducer", "user_id", "window", "persona")

InSet = tuple[Remembered, int, Persona]
"""A persona of a user's set after a window."""


@dataclass(frozen=True)
class Induced:
    """Rows of the tables of these names."""

    persona_sets: pd.DataFrame
    persona_memories: pd.DataFrame
    dropped_personas: pd.DataFrame


Kept = tuple[Sequence[Candidate], Sequence[Candidate]]
"""The personas of a user after a window, and what was dropped."""


class Making(Protocol):
    """How memories become personas."""

    @property
    def of_all(self) -> bool:
        """Whether training users get sets, too; those that a policy writes are of evaluation users."""
        ...

    def __call__(
        self, users: Sequence[Remembered], others: Sequence[Remembered], window: int, now: Sequence[int]
    ) -> Sequence[Kept | None]:
        """The personas of each user after a window.

        Args:
            users: what they remember until then.
            others: those whom they are compared with.
            window: which.
            now: the last session of each.

        Returns:
            None for whom nothing can be said; the set stays as it was.
        """
        ...


@dataclass(frozen=True)
class ByClusters:
    """Clusters of memories; see `sets.INDUCERS`, and `sets.candidates_of` for the other attributes."""

    inducer: Inducer
    rate: float
    reach: float

    @property
    def of_all(self) -> bool:
        """Yes: they cost nothing."""
        return True

    def __call__(
        self,
        users: Sequence[Remembered],
        others: Sequence[Remembered],
        window: int,
        now: Sequence[int],  # noqa: ARG002
    ) -> Sequence[Kept | None]:
        """See `Making`."""
        if self.inducer == "one_persona":  # of everything: needs no clusters
            return [personas_of(user, [], self.inducer) for user in users]
        clusters = candidates_of(users, others, self.rate, self.reach, window)
        return [personas_of(user, found, self.inducer) for user, found in zip(users, clusters, strict=True)]


def induce(
    memories: pd.DataFrame,
    users: Sequence[Remembered],
    events: pd.DataFrame,
    make: Making,
    inducer: Inducer,
    seed: int,
    domain: Domain,
    chat: ChatSetup,
    writer: str | None,
) -> Induced:
    """The persona sets of users after every window.

    Args:
        memories: rows of memories.
        users: what `remembered` made of them.
        events: rows of `events`, which say how far a history reaches.
        make: how memories become personas.
        inducer: the name of that.
        seed: of what chance puts together.
        domain: whose memories these are.
        chat: the model that writes labels where `make` gives none, and its prompts.
        writer: the name of what writes them; None where nothing does.
    """
    trainers = [user for user in users if user.trains]
    sessions = events.groupby(["user_id", "window"])["session"].max()
    lasting = {user.user_id: Lasting() for user in users}
    sets: list[InSet] = []
    dropped: list[tuple[Any, ...]] = []
    splits = splits_of(events)
    induced = [user for user in users if make.of_all or splits[user.user_id] == "eval"]
    for window in range(int(events["window"].max()) + 1 if len(events) else 0):
        known = [user.up_to(window) for user in induced if (user.user_id, window) in sessions.index]
        others = trainers or [user.up_to(window) for user in users]
        now = [int(sessions[user.user_id, window]) for user in known]
        for user, made, last in zip(known, make(known, others, window, now), now, strict=True):
            if made is None:
                sets += [(user, window, row) for row in lasting[user.user_id].unchanged()]
                continue
            kept, left = made
            rows = lasting[user.user_id].next_set(user, kept, last)
            if inducer == "random_clusters":
                hands = dealt(user, [row.candidate for row in rows], seed)
                rows = [replace(row, candidate=hand) for row, hand in zip(rows, hands, strict=True)]
            sets += [(user, window, row) for row in rows]
            if inducer != "random_clusters":
                dropped += [
                    (domain.name, inducer, user.user_id, window, number, *_figures(one), one.dropped)
                    for number, one in enumerate(left)
                ]
    labels = _labels(sets, memories, inducer, domain, chat)
    return Induced(
        *_rows(sets, labels, (domain.name, inducer), writer),
        pd.DataFrame(dropped, columns=[*SETS[:-1], "number", *_MEASURED, "reason"]),
    )


def _rows(
    sets: Sequence[InSet], labels: Sequence[Reply[Label]], of: tuple[str, Inducer], writer: str | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of persona_sets and of persona_memories, of a domain and inducer."""
    personas = [
        (
            *(*of, user.user_id, window, one.number, one.state),
            *(None if reply.value is None else getattr(reply.value, part) for part in _PARTS),
            *(*_figures(one.candidate), reply.note, reply.attempts, writer),
        )
        for (user, window, one), reply in zip(sets, labels, strict=True)
    ]
    members = [
        (*of, user.user_id, window, one.number, int(user.memory[place]))
        for user, window, one in sets
        for place in one.candidate.places
        if one.state != "ended"
    ]
    columns = [*SETS, "state", *_PARTS, *_MEASURED, "note", "attempts", "model"]
    return pd.DataFrame(personas, columns=columns), pd.DataFrame(members, columns=[*SETS, "memory"])


def users_of(
    memories: pd.DataFrame, evidence: pd.DataFrame, events: pd.DataFrame, embedder: Embedder
) -> tuple[list[Remembered], list[list[str]]]:
    """What is remembered of each user, and what each of these memories says.

    What words mean is learned from the memories of training users; where nobody trains, from all.

    Args:
        memories: rows of memories.
        evidence: rows of memory_events.
        events: rows of `events`, which say who trains.
        embedder: what turns memories into vectors.
    """
    splits = splits_of(events)
    memories = memories.sort_values(["user_id", "memory"]).reset_index(drop=True)
    trains = memories["user_id"].map(splits) == "train"
    known = memories["intent"][trains if trains.any() else trains | True]
    vectors = embedder.embed(list(memories["intent"]), list(known))
    users = remembered(memories, evidence, splits, vectors)
    intents = {str(user): list(own) for user, own in memories.groupby("user_id")["intent"]}
    return users, [intents[user.user_id] for user in users]


def splits_of(events: pd.DataFrame) -> dict[str, str]:
    """The split of each user of `events` rows."""
    return dict(zip(events["user_id"], events["split"], strict=True))


_PARTS = ("label", "description")
_MEASURED = ("memories", "sessions", "share", "chance", "p_value")


def _figures(one: Candidate) -> tuple[Any, ...]:
    return len(one.places), one.sessions, one.share, one.chance, one.p_value


def _labels(
    sets: Sequence[InSet],
    memories: pd.DataFrame,
    inducer: Inducer,
    domain: Domain,
    chat: ChatSetup,
) -> list[Reply[Label]]:
    """What each persona is called: as its maker says, or asked once for the same memories of LABELLED."""
    if inducer not in LABELLED:
        return [Reply(one.candidate.label, None, 0) for _, _, one in sets]
    texts = dict(
        zip(zip(memories["user_id"], memories["memory"], strict=True), memories["intent"], strict=True)
    )
    prompts = [
        chat.prompts.persona_label(
            domain,
            [texts[user.user_id, int(user.memory[place])] for place in one.candidate.places[-MOST_MEMORIES:]],
        )
        for user, _, one in sets
    ]
    different = list(dict.fromkeys(prompts))
    replies = ask(chat.model, different, [parse_label] * len(different), chat.asks)
    answers = dict(zip(different, replies, strict=True))
    return [answers[prompt] for prompt in prompts]


def parse_label(answer: str | None) -> Label:
    """The label and the description in an answer: the last JSON object that has both.

    Raises:
        UnreadableAnswer: with a word out of `parsing.REASONS`.
    """
    pieces = pieces_of(json_text(answer))
    objects = [fields_of(piece.value) for piece in pieces if isinstance(piece.value, tuple)]
    if not objects:
        raise UnreadableAnswer("no_json")
    whole = [told for told in objects if set(_PARTS) <= told.keys()]
    label, description = ((whole or objects)[-1].get(part) for part in _PARTS)
    return label_of(label, description)
