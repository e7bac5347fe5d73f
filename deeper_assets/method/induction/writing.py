"""Sets of personas that a policy writes: it reads groups of memories, and says which of them are personas.

The groups are clusters (`sets`); a persona may come from several. The policy writes labels and descriptions
too. What it writes is still compared with chance before it is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from deeper_assets.method.asking import Reply, ask_policy
from deeper_assets.method.candidates import CandidateDraw, seeds
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.induction.clusters import FEWEST_SESSIONS, Counts
from deeper_assets.method.induction.induce import Kept
from deeper_assets.method.induction.set_recipes import PLACE
from deeper_assets.method.induction.sets import Candidate, Label, Remembered, candidates_of, label_of
from deeper_assets.method.json_pieces import Object, fields_of, listed_objects, whole_numbers
from deeper_assets.method.prompts import Prompts, ShownGroup
from deeper_assets.method.protocols import Decoding, Sample, Sampler

MOST_GROUPS, MOST_INTENTS = 12, 3
"""Groups that a prompt shows, those of most events; and of each, its latest different intents."""

CONTEXT_WINDOWS = (2, 4)
"""Windows after which training users' sets are written: there is enough to read, and a window to come."""

_KEYS = ("groups", "label", "description")


@dataclass(frozen=True)
class Written:
    """A persona as a policy writes it: the numbers (0-based) of its groups, and what it is called."""

    groups: tuple[int, ...]
    label: Label


@dataclass(frozen=True)
class Shown:
    """What a policy is shown of a user: groups of memories, by the places of these, and the prompt."""

    groups: tuple[Counts, ...]
    prompt: str


def parse_set(answer: str | None, groups: int) -> tuple[Written, ...]:
    """The personas in an answer to a prompt of so many groups.

    Raises:
        UnreadableAnswer: with a word out of `parsing.REASONS`; a persona has no words or no groups, or one
            that there is not, or a group stands twice.
    """
    personas = tuple(_written(entry, groups) for entry in listed_objects(answer, 4 * groups, _KEYS))
    named = [number for persona in personas for number in persona.groups]
    if len(named) != len(set(named)):
        raise UnreadableAnswer("repeated_group")
    return personas


def _written(entry: Object, groups: int) -> Written:
    told = fields_of(entry)
    numbers = whole_numbers(told.get("groups"), groups)
    if not numbers:
        raise UnreadableAnswer("no_evidence")
    label = label_of(told.get("label"), told.get("description"))
    return Written(tuple(number - 1 for number in numbers), label)


def shown_of(
    user: Remembered,
    intents: Sequence[str],
    now: int,
    found: Sequence[Candidate],
    domain: Domain,
    prompts: Prompts,
) -> Shown | None:
    """What a policy is shown of a user after a session; None where nothing has come twice.

    Args:
        user: the memories until then.
        intents: of each memory.
        now: the last session.
        found: the clusters of the memories.
        domain: of what they are.
        prompts: the template.
    """
    often = [one for one in found if one.sessions >= FEWEST_SESSIONS]
    often = sorted(often, key=lambda one: (-int(user.events[one.places].sum()), int(one.places[0])))
    if not often:
        return None
    groups = [
        ShownGroup(
            one.sessions,
            now + 1,
            now - int(user.session[one.places].max()),
            one.share,
            one.chance,
            tuple(list(dict.fromkeys(intents[place] for place in reversed(one.places)))[:MOST_INTENTS]),
        )
        for one in often[:MOST_GROUPS]
    ]
    return Shown(tuple(one.places for one in often[:MOST_GROUPS]), prompts.persona_set(domain, groups))


@dataclass(frozen=True)
class SetContexts:
    """Rows of the tables of these names."""

    set_contexts: pd.DataFrame
    set_groups: pd.DataFrame


def set_contexts(
    users: Sequence[Remembered],
    intents: Sequence[Sequence[str]],
    events: pd.DataFrame,
    reach: float,
    domain: Domain,
    prompts: Prompts,
) -> SetContexts:
    """What the policy is shown of training users after CONTEXT_WINDOWS.

    Args:
        users: all that is remembered of the domain's users.
        intents: of each user, what each memory says.
        events: rows of `events`.
        reach: see `candidates_of`.
        domain: whose users these are.
        prompts: the template.
    """
    trainers = [(user, own) for user, own in zip(users, intents, strict=True) if user.trains]
    sessions = events.groupby(["user_id", "window"])["session"].max()
    contexts, groups = [], []
    for window in CONTEXT_WINDOWS:
        # There is a window to come, which says what a set is worth.
        known = [pair for pair in trainers if (pair[0].user_id, window + 1) in sessions.index]
        then = [user.up_to(window) for user, _ in known]
        clusters = candidates_of(then, [user for user, _ in trainers], 1.0, reach, window)
        for user, (_, own), found in zip(then, known, clusters, strict=True):
            shown = shown_of(user, own, int(sessions[user.user_id, window]), found, domain, prompts)
            if shown is None:
                continue
            of = (domain.name, user.user_id, window)
            contexts.append((*of, len(shown.groups), shown.prompt))
            groups += [
                (*of, number, int(user.memory[place]))
                for number, places in enumerate(shown.groups)
                for place in places
            ]
    return SetContexts(
        pd.DataFrame(contexts, columns=[*PLACE, "groups", "prompt"]),
        pd.DataFrame(groups, columns=[*PLACE, "group", "memory"]),
    )


def sample_sets(contexts: pd.DataFrame, sampler: Sampler, draw: CandidateDraw) -> pd.DataFrame:
    """Sets that a policy writes for every context, in one call of the sampler.

    Returns:
        set_candidates rows, one a distinct text of a context; `candidate` is the number of its first sample.
    """
    wanted = contexts.sort_values(PLACE).to_dict("records")
    written = sampler.sample(
        [str(row["prompt"]) for row in wanted],
        [seeds(row["user_id"], row["window"], draw.n, draw.seed) for row in wanted],
        draw.decoding,
    )
    rows = []
    for context, samples in zip(wanted, written, strict=True):
        numbers: dict[str, list[int]] = {}
        for number, sample in enumerate(samples):
            numbers.setdefault(sample.text, []).append(number)
        for text, same in numbers.items():
            first = samples[same[0]]
            unusable = _unusable(text, int(context["groups"])) if first.finished else "truncated"
            of = tuple(context[name] for name in PLACE)
            rows.append((*of, same[0], text, len(same), first.tokens, unusable, sampler.name))
    columns = [*PLACE, "candidate", "text", "copies", "tokens", "unusable", "model"]
    return pd.DataFrame(rows, columns=columns)


def _unusable(text: str, groups: int) -> str | None:
    try:
        parse_set(text, groups)
    except UnreadableAnswer as reason:
        return str(reason)
    return None


@dataclass(frozen=True)
class SetWriting:
    """How a policy writes a set: by `decoding`, and where that cannot be read by `again`; `asks` in all."""

    decoding: Decoding
    again: Decoding
    seed: int
    asks: int
    max_length: int | None = None


@dataclass(frozen=True)
class ByPolicy:
    """Sets that a policy writes; see `induce.Making`.

    Attributes:
        intents: of each user, what each memory says.
        sampler: the policy.
        writing: how it writes.
        rate: of false discoveries, which is asked of what it writes.
        reach: see `candidates_of`.
        domain: whose users these are.
        prompts: the template.
        rows: what was written so far: set_writings rows without domain and inducer.
    """

    intents: Mapping[str, Sequence[str]]
    sampler: Sampler
    writing: SetWriting
    rate: float
    reach: float
    domain: Domain
    prompts: Prompts
    rows: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def of_all(self) -> bool:
        """No: training users are those whom the policy has learned from, and each set costs."""
        return False

    def __call__(
        self, users: Sequence[Remembered], others: Sequence[Remembered], window: int, now: Sequence[int]
    ) -> Sequence[Kept | None]:
        """The personas of each user after a window; None where no answer could be read."""
        clusters = candidates_of(users, others, self.rate, self.reach, window)
        shown = [
            shown_of(user, self.intents[user.user_id], last, found, self.domain, self.prompts)
            for user, last, found in zip(users, now, clusters, strict=True)
        ]
        asked = [(one, user, window) for one, user in zip(shown, users, strict=True) if one is not None]
        places = [number for number, one in enumerate(shown) if one is not None]
        replies = dict(zip(places, self._written(asked), strict=True))
        read = [() if one is None else replies[number].value for number, one in enumerate(shown)]
        groups = [
            places_of(personas, one.groups) if personas and one else []
            for personas, one in zip(read, shown, strict=True)
        ]
        taken = [frozenset(int(place) for own in some for place in own) for some in groups]
        left = [
            [one for one in found if int(one.places[0]) not in named]
            for found, named in zip(clusters, taken, strict=True)
        ]
        beside = [[one.p_value for one in some] for some in left]
        measured = candidates_of(users, others, self.rate, self.reach, window, groups, beside)
        return [
            None if personas is None else _kept(personas, own, one, some)
            for personas, own, one, some in zip(read, measured, shown, left, strict=True)
        ]

    def _written(self, asked: Sequence[tuple[Shown, Remembered, int]]) -> list[Reply[tuple[Written, ...]]]:
        writing, texts = self.writing, [""] * len(asked)

        def read(number: int, sample: Sample) -> tuple[Written, ...]:
            texts[number] = sample.text
            if not sample.finished:
                raise UnreadableAnswer("cut_off")
            return parse_set(sample.text, len(asked[number][0].groups))

        prompts = [shown.prompt for shown, _, _ in asked]
        own = [seeds(user.user_id, window, writing.asks, writing.seed) for _, user, window in asked]
        decodings = writing.decoding, writing.again
        replies = ask_policy(self.sampler, prompts, own, decodings, writing.asks, read)
        self.rows.extend(
            (user.user_id, window, text, reply.note, reply.attempts, self.sampler.name)
            for (_, user, window), text, reply in zip(asked, texts, replies, strict=True)
        )
        return replies

    def writings(self, domain: str, inducer: str) -> pd.DataFrame:
        """Rows of set_writings."""
        rows = [(domain, inducer, *row) for row in self.rows]
        return pd.DataFrame(rows, columns=NO_WRITINGS.columns)


NO_WRITINGS = pd.DataFrame(
    columns=["domain", "inducer", "user_id", "window", "text", "note", "attempts", "model"]
)


def _kept(
    personas: Sequence[Written],
    measured: Sequence[Candidate],
    shown: Shown | None,
    left: Sequence[Candidate],
) -> Kept:
    """What is kept of what was written, and what is dropped: by chance, or because it was left out."""
    written = [replace(one, label=persona.label) for one, persona in zip(measured, personas, strict=True)]
    seen = {int(places[0]) for places in shown.groups} if shown else set()
    unnamed = [
        replace(one, dropped="left_out" if int(one.places[0]) in seen else one.dropped or "not_shown")
        for one in left
    ]
    return [one for one in written if one.dropped is None], [
        *(one for one in written if one.dropped is not None),
        *unnamed,
    ]


def places_of(personas: Sequence[Written], groups: Sequence[Counts]) -> list[Counts]:
    """The places of the memories of each persona."""
    return [np.sort(np.concatenate([groups[number] for number in one.groups])) for one in personas]
