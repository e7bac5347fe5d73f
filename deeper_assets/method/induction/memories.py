"""Memories: what somebody was after in a session, as the frozen chat model reads it, with its evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from deeper_assets.method.asking import ChatSetup, ask
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.json_pieces import (
    Object,
    fields_of,
    is_wording,
    listed_objects,
    whole_numbers,
)
from deeper_assets.method.prompts import one_line

LONGEST_INTENT = 300
"""In characters; an intent is a few words."""

_INTENT, _EVENTS = ("intent", "memory", "text"), ("events", "event", "numbers", "lines")


@dataclass(frozen=True)
class Intent:
    """What somebody was after: a few words, and the places (0-based) of the events that show it."""

    text: str
    events: tuple[int, ...]


def parse_intents(answer: str | None, events: int) -> tuple[Intent, ...]:
    """The intents of a session of so many events; none is an answer too.

    The JSON may stand in a fence, amid prose or within an object; the last list that is not empty counts.

    Raises:
        UnreadableAnswer: with a word out of `parsing.REASONS`; an intent has no words or no events, or one
            that the session does not have.
    """
    return tuple(_intent(entry, events) for entry in listed_objects(answer, 4 * events, _INTENT))


def _intent(entry: Object, events: int) -> Intent:
    told = fields_of(entry)
    text = next((told[key] for key in _INTENT if key in told), None)
    numbers = next((told[key] for key in _EVENTS if key in told), None)
    if not is_wording(text, LONGEST_INTENT):
        raise UnreadableAnswer("no_intent")
    places = sorted(number - 1 for number in whole_numbers(numbers, events))
    if not places:
        raise UnreadableAnswer("no_evidence")
    return Intent(one_line(text), tuple(places))


@dataclass(frozen=True)
class Memories:
    """What was read of a domain's sessions: rows of the tables of these names."""

    memories: pd.DataFrame
    memory_events: pd.DataFrame
    session_readings: pd.DataFrame


def read_sessions(events: pd.DataFrame, domain: Domain, chat: ChatSetup) -> Memories:
    """The memories of every user, numbered by session and order, each with the events that it cites.

    Args:
        events: rows of `events`.
        domain: what their items are called.
        chat: the model and its prompts.
    """
    ordered = events.sort_values(["user_id", "session", "event"])
    sessions = [(key, rows) for key, rows in ordered.groupby(["user_id", "session"], sort=False)]
    prompts, readers = [], []
    for _, rows in sessions:
        prompts.append(chat.prompts.memories(domain, list(zip(rows["text"], rows["sign"], strict=True))))
        readers.append(partial(parse_intents, events=len(rows)))
    replies = ask(chat.model, prompts, readers, chat.asks)
    memories, evidence, readings = [], [], []
    numbers: dict[str, int] = {}
    for ((name, session), rows), reply in zip(sessions, replies, strict=True):
        user = str(name)
        window, held = int(rows["window"].iloc[0]), list(rows["event"])
        readings.append(
            (domain.name, user, session, window, len(rows), reply.note, reply.attempts, chat.model.name)
        )
        for intent in reply.value or ():
            number = numbers.get(user, 0)
            numbers[user] = number + 1
            memories.append((domain.name, user, number, session, window, intent.text))
            evidence += [(domain.name, user, number, session, held[place]) for place in intent.events]
    return Memories(
        _frame(memories, ("domain", "user_id", "memory", "session", "window", "intent")),
        _frame(evidence, ("domain", "user_id", "memory", "session", "event")),
        _frame(
            readings,
            ("domain", "user_id", "session", "window", "events", "note", "attempts", "model"),
        ),
    )


def _frame(rows: Sequence[tuple[Any, ...]], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))
