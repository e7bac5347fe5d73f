"""Persona sets of a domain: clusters of memories after every window, with ids that last, labelled.

A set is written from memories of the windows up to its own, and compared with all that training users did.
Where nobody trains, it is compared with what the others had done by then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from deeper_assets.method.asking import ChatSetup, Reply, ask
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.induction.sets import (
    Candidate,
    Inducer,
    Lasting,
    Persona,
    Remembered,
    candidates_of,
    dealt,
    personas_of,
    remembered,
)
from deeper_assets.method.json_pieces import fields_of, is_wording, json_text, pieces_of
from deeper_assets.method.prompts import one_line

MOST_MEMORIES = 60
"""That a label is written from, the latest ones."""

LABELLED: tuple[Inducer, ...] = ("clusters",)
"""Inducers whose personas get words; the others are only measured."""

LONGEST_LABEL, LONGEST_DESCRIPTION = 120, 2_000
"""In characters."""

SETS = ("domain", "inducer", "user_id", "window", "persona")

InSet = tuple[Remembered, int, Persona]
"""A persona of a user's set after a window."""


@dataclass(frozen=True)
class Induced:
    """Rows of the tables of these names."""

    persona_sets: pd.DataFrame
    persona_memories: pd.DataFrame
    dropped_personas: pd.DataFrame


@dataclass(frozen=True)
class Label:
    """What a persona is called, and what it says."""

    label: str
    description: str


def induce(
    memories: pd.DataFrame,
    evidence: pd.DataFrame,
    events: pd.DataFrame,
    vectors: npt.NDArray[np.float64],
    reach: float,
    inducer: Inducer,
    rate: float,
    seed: int,
    domain: Domain,
    chat: ChatSetup,
) -> Induced:
    """The persona sets of every user after every window.

    Args:
        memories: rows of memories; `vectors` are theirs.
        evidence: rows of memory_events.
        events: rows of `events`, which say who trains, and how far a history reaches.
        vectors: memories × dimensions.
        reach: cosine similarity from which they are near; see `Embedder`.
        inducer: how memories become personas.
        rate: of false discoveries.
        seed: of what chance puts together.
        domain: whose memories these are.
        chat: the model that writes labels, and its prompts.
    """
    users = remembered(memories, evidence, splits_of(events), vectors)
    trainers = [user for user in users if user.trains]
    sessions = events.groupby(["user_id", "window"])["session"].max()
    lasting = {user.user_id: Lasting() for user in users}
    sets: list[InSet] = []
    dropped: list[tuple[Any, ...]] = []
    for window in range(int(events["window"].max()) + 1 if len(events) else 0):
        known = [user.up_to(window) for user in users if (user.user_id, window) in sessions.index]
        others = trainers or [user.up_to(window) for user in users]
        # One persona of everything needs no clusters.
        alone = inducer == "one_persona"
        clusters = [[]] * len(known) if alone else candidates_of(known, others, rate, reach)
        for user, found in zip(known, clusters, strict=True):
            kept, left = personas_of(user, found, inducer)
            now = int(sessions[user.user_id, window])
            rows = lasting[user.user_id].next_set(user, kept, now)
            if inducer == "random_clusters":
                hands = dealt(user, [row.candidate for row in rows], seed)
                rows = [replace(row, candidate=hand) for row, hand in zip(rows, hands, strict=True)]
            sets += [(user, window, row) for row in rows]
            if inducer == "clusters":
                dropped += [
                    (domain.name, inducer, user.user_id, window, number, *_figures(one), one.dropped)
                    for number, one in enumerate(left)
                ]
    labels = _labels(sets, memories, inducer, domain, chat)
    writer = chat.model.name if inducer in LABELLED else None
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
    """What each persona is called: asked once for the same memories; nothing of inducers without words."""
    if inducer not in LABELLED:
        return [Reply(None, None, 0)] * len(sets)
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
    if not is_wording(label, LONGEST_LABEL) or not is_wording(description, LONGEST_DESCRIPTION):
        raise UnreadableAnswer("no_label")
    return Label(one_line(label), one_line(description))
