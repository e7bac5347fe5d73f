"""Asking a chat model until its answers can be read, and never longer than agreed.

Departs from the paper: it does not say what happens to an unreadable answer. Here it is asked for again, then
counted as unknown. Predictions have other names in their JSON, and a schema where the model knows schemas.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.frames import text_in
from deeper_assets.method.histories import histories, places
from deeper_assets.method.judging import Shown
from deeper_assets.method.parsing import parse_ratings
from deeper_assets.method.placing import PlacedRatings, Placing
from deeper_assets.method.prompts import Prompts, RatedItem
from deeper_assets.method.protocols import ChatModel, Decoding, Sample, Sampler

Value = TypeVar("Value")

NO_PERSONA = "no_persona"
"""Note of everything that would need a persona where there is none."""

MOST_MARKS = 100
"""Of a scale that a schema lists one by one; a finer one is bounded only. Servers limit their number."""


@dataclass(frozen=True)
class Reply(Generic[Value]):
    """What came of one prompt.

    Attributes:
        value: the answer as read; None where none could be.
        note: why there is no value (the reason of the last attempt); None where there is one.
        attempts: how often the model was asked.
    """

    value: Value | None
    note: str | None
    attempts: int


def ask(
    chat: ChatModel,
    prompts: Sequence[str],
    readers: Sequence[Callable[[str | None], Value]],
    asks: int,
    schema: Mapping[str, Any] | None = None,
) -> list[Reply[Value]]:
    """Asks every prompt, and those with unreadable answers again, up to `asks` times in all.

    Args:
        chat: the model.
        prompts: complete prompts.
        readers: one a prompt; turns an answer into a value or raises UnreadableAnswer. Anything else it
            raises is a programming error and passes through.
        asks: how often a prompt is asked at most, the first time included.
        schema: JSON schema of the answers; see `ChatModel.answer`.

    Returns:
        One reply a prompt, in order. An unreadable answer is a reply without a value, never a made-up one.
    """
    replies: list[Reply[Value]] = [Reply(None, "not_asked", 0)] * len(prompts)
    open_ones = list(range(len(prompts)))
    for attempt in range(asks):
        if not open_ones:
            break
        answers = chat.answer([prompts[i] for i in open_ones], attempt=attempt, schema=schema)
        if len(answers) != len(open_ones):
            raise RuntimeError(f"{chat.name} gave {len(answers)} answers to {len(open_ones)} prompts")
        unread = []
        for i, answer in zip(open_ones, answers, strict=True):
            try:
                if answer.reason is not None:
                    raise UnreadableAnswer(answer.reason)
                replies[i] = Reply(readers[i](answer.text), None, attempt + 1)
            except UnreadableAnswer as reason:
                replies[i] = Reply(None, str(reason), attempt + 1)
                unread.append(i)
        open_ones = unread
    return replies


def ask_policy(
    sampler: Sampler,
    prompts: Sequence[str],
    seeds: Sequence[Sequence[int]],
    decodings: tuple[Decoding, Decoding],
    asks: int,
    read: Callable[[int, Sample], Value],
) -> list[Reply[Value]]:
    """One text of a policy for each prompt; like a chat model, it is asked again where that cannot be read.

    Args:
        sampler: the policy.
        prompts: complete prompts.
        seeds: of each prompt, one for every time that it may be asked.
        decodings: how it writes at first, and how again: a greedy text would be the same again.
        asks: how often a prompt is asked at most, the first time included.
        read: turns the text for a prompt, by its number, into a value, or raises UnreadableAnswer.

    Returns:
        One reply a prompt, in order.
    """
    replies: list[Reply[Value]] = [Reply(None, "not_asked", 0)] * len(prompts)
    for attempt in range(asks):
        open_ones = [i for i, reply in enumerate(replies) if reply.value is None]
        if not open_ones:
            break
        own = [[seeds[i][attempt]] for i in open_ones]
        written = sampler.sample([prompts[i] for i in open_ones], own, decodings[min(attempt, 1)])
        for i, (sample,) in zip(open_ones, written, strict=True):
            try:
                replies[i] = Reply(read(i, sample), None, attempt + 1)
            except UnreadableAnswer as reason:
                replies[i] = Reply(None, str(reason), attempt + 1)
    return replies


@dataclass(frozen=True)
class ChatSetup:
    """The frozen chat model, the prompts for it, and how often an unreadable answer is asked for at most."""

    model: ChatModel
    prompts: Prompts
    asks: int

    def identity(self) -> dict[str, Any]:
        """What decides the answers: the model and what shapes them, the templates, the number of tries."""
        return {"model": self.model.name, "asks": self.asks, "prompts": self.prompts.identity()}


def ask_personas(
    chat: ChatSetup, prompts: Sequence[str], shown: Sequence[str] | None = None
) -> list[Reply[str]]:
    """Asks the chat model for a persona a prompt.

    `shown` are the personas that the prompts show, which an answer may repeat; None where they show none.
    """
    old = shown if shown is not None else [""] * len(prompts)
    readers = [Shown.of(prompt, persona).persona for prompt, persona in zip(prompts, old, strict=True)]
    return ask(chat.model, prompts, readers, chat.asks)


def ask_predictions(
    chat: ChatSetup, domain: Domain, questions: Sequence[tuple[str | None, Sequence[RatedItem]]]
) -> list[Reply[PlacedRatings]]:
    """Asks the chat model to rate as a persona would.

    Args:
        chat: the model and its prompts.
        domain: item type and scale.
        questions: a persona and a window's items, each. Only the items' titles are shown to the model.

    Returns:
        One rating an item for each question and how it was placed, or the reason why there is none.
        Questions without a persona are not asked and stay unknown.
    """
    asked = [
        (None if persona is None else chat.prompts.prediction(domain, persona, _titles(items)), items)
        for persona, items in questions
    ]
    return ask_ratings(chat, domain, asked)


def ask_ratings(
    chat: ChatSetup, domain: Domain, questions: Sequence[tuple[str | None, Sequence[RatedItem]]]
) -> list[Reply[PlacedRatings]]:
    """Asks the chat model complete prompts for ratings of items; see `ask_predictions`.

    A question is a prompt and the items that it asks about. One without a prompt is not asked.
    """
    replies: list[Reply[PlacedRatings]] = [Reply(None, NO_PERSONA, 0)] * len(questions)
    asked, prompts, readers = [], [], []
    for i, (prompt, items) in enumerate(questions):
        if prompt is not None:
            asked.append(i)
            prompts.append(prompt)
            readers.append(partial(parse_ratings, titles=_titles(items), scale=domain.scale))
    answers = ask(chat.model, prompts, readers, chat.asks, ratings_schema(domain.scale))
    for i, reply in zip(asked, answers, strict=True):
        replies[i] = reply
    return replies


def _titles(items: Sequence[RatedItem]) -> tuple[str, ...]:
    return tuple(item.title for item in items)


def rated_items(
    reply: Reply[PlacedRatings], items: int
) -> Sequence[tuple[float, Placing] | tuple[None, None]]:
    """Each item's rating and how it was placed; None and None where no answer could be read."""
    if reply.value is None:
        return [(None, None)] * items
    return list(zip(reply.value.ratings, reply.value.placed, strict=True))


def predict_windows(
    chat: ChatSetup, domain: Domain, windows: pd.DataFrame, asked: pd.DataFrame
) -> pd.DataFrame:
    """What personas predict for windows of their users.

    A persona is asked about a window once, in however many rows of `asked` it stands.

    Args:
        chat: the model and its prompts.
        domain: item type and scale.
        windows: rating_windows rows of the domain.
        asked: user_id, persona (without one, nothing is asked), window (several: a tuple), and any others.

    Returns:
        The columns of `asked` but `persona`, and place, predicted (rating points, NaN where unknown), placed
        (how the rating found its item), note, attempts, model: one row a usable rating of each window that
        the user has.
    """
    windows = windows[windows["user_id"].isin(asked["user_id"])]
    users, at = histories(windows), places(windows)
    asked = asked.explode("window").astype({"window": "int64"})
    asked = asked[np.array([key in at for key in zip(asked["user_id"], asked["window"], strict=True)], bool)]
    questions: dict[tuple[str, int, str | None], int] = {}
    numbers = [
        questions.setdefault((user, window, text_in(persona)), len(questions))
        for user, window, persona in zip(asked["user_id"], asked["window"], asked["persona"], strict=True)
    ]
    replies = ask_predictions(
        chat, domain, [(persona, users[user][window]) for user, window, persona in questions]
    )
    # Columns at once, not rows: a domain of the paper's size has some three million of them.
    places_of = [at[user, window] for user, window, _ in questions]
    answers = [(places_of[number], replies[number]) for number in numbers]
    items = [len(held) for held, _ in answers]
    rows = asked.drop(columns="persona").iloc[np.repeat(np.arange(len(asked)), items)]
    rated = [pair for held, reply in answers for pair in rated_items(reply, len(held))]
    return rows.assign(
        place=np.array([place for held, _ in answers for place in held], dtype="int64"),
        predicted=np.array([rating for rating, _ in rated], dtype="float64"),
        placed=np.array([placing for _, placing in rated], dtype="object"),
        note=np.repeat(np.array([reply.note for _, reply in answers], dtype="object"), items),
        attempts=np.repeat(np.array([reply.attempts for _, reply in answers], dtype="int64"), items),
        model=chat.model.name,
    ).reset_index(drop=True)


@lru_cache
def ratings_schema(scale: Scale) -> Mapping[str, Any]:
    """JSON schema of predicted ratings, for models that can be held to one: the prompt's list in an object.

    An object, because the servers that know schemas take nothing else as the outermost value.
    """
    entry = {
        "type": "object",
        "properties": {"item": {"type": "string"}, "rating": {"type": "number", **_marks(scale)}},
        "required": ["item", "rating"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"ratings": {"type": "array", "items": entry}},
        "required": ["ratings"],
        "additionalProperties": False,
    }


def _marks(scale: Scale) -> Mapping[str, Any]:
    steps = round((scale.highest - scale.lowest) / scale.step)
    if steps > MOST_MARKS:
        return {"minimum": scale.lowest, "maximum": scale.highest}
    marks = dict.fromkeys(scale.nearest(scale.lowest + step * scale.step) for step in range(steps + 1))
    return {"enum": [json_mark(mark) for mark in marks]}


def json_mark(mark: float) -> float:
    """A rating as a schema lists it and an answer has it: 4 and not 4.0, which are more tokens."""
    return int(mark) if mark == int(mark) else mark
