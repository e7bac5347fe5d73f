"""Whether what a set says is shown: alignment with a persona's own evidence, and truthfulness.

The frozen chat model judges: it gets all claims that are made of a person after a window, by whichever set,
and all memories until then, each once. So a claim is judged once however often it is made.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from deeper_assets.method.asking import ChatSetup, ask
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.json_pieces import fields_of, listed_objects, whole_numbers
from deeper_assets.method.prompts import one_line

MOST_CLAIMS = 40
"""Of one question; more are asked in several."""

_SENTENCE = re.compile(r"(?<=\w{2}[.!?])\s+(?=[^\W\d_a-z])")
"""Where a sentence ends: after a word of two letters or more, before a capital or a script without any."""


@dataclass(frozen=True)
class Verdict:
    """What a judge says of a claim.

    Attributes:
        shown_by: the places (0-based) of the memories that show it; none where it goes beyond them.
        contradicted: whether memories speak against it.
    """

    shown_by: frozenset[int]
    contradicted: bool

    @property
    def is_true(self) -> bool:
        """Whether memories show it and none speaks against it."""
        return bool(self.shown_by) and not self.contradicted


def claims_of(description: str) -> list[str]:
    """The sentences of a description, each once; abbreviations of a letter end none."""
    return list(dict.fromkeys(part for part in map(one_line, _SENTENCE.split(description)) if part))


def parse_verdicts(answer: str | None, claims: int, memories: int) -> tuple[Verdict, ...]:
    """The verdicts on so many claims by so many memories, in the order of the claims.

    Raises:
        UnreadableAnswer: with a word out of `parsing.REASONS`; not every claim has one verdict, or one names
            a memory that there is not.
    """
    verdicts: dict[int, Verdict] = {}
    for entry in listed_objects(answer, 4 * claims, {"claim"}):
        told = fields_of(entry)
        numbers = whole_numbers(told.get("claim"), claims)
        shown = whole_numbers(told.get("shown_by") or [], memories)
        contradicted = told.get("contradicted") or False
        if len(numbers) != 1 or numbers[0] in verdicts or not isinstance(contradicted, bool):
            raise UnreadableAnswer("wrong_verdicts")
        verdicts[numbers[0]] = Verdict(frozenset(one - 1 for one in shown), contradicted)
    if sorted(verdicts) != list(range(1, claims + 1)):
        raise UnreadableAnswer("wrong_verdicts")
    return tuple(verdicts[number] for number in range(1, claims + 1))


def judge(
    chat: ChatSetup, domain: Domain, questions: Sequence[tuple[Sequence[str], Sequence[str]]]
) -> list[Mapping[str, tuple[Verdict | None, str | None]]]:
    """What the chat model says of claims about people.

    Args:
        chat: the judge and its prompts.
        domain: of what the memories are.
        questions: the claims and the memories, each.

    Returns:
        By claim, for each question, the verdict, or None with a note that says why there is none.
    """
    parts = [
        (number, list(claims[first : first + MOST_CLAIMS]), list(memories))
        for number, (claims, memories) in enumerate(questions)
        for first in range(0, len(claims), MOST_CLAIMS)
    ]
    prompts = [chat.prompts.verdicts(domain, claims, memories) for _, claims, memories in parts]
    readers = [
        partial(parse_verdicts, claims=len(claims), memories=len(memories)) for _, claims, memories in parts
    ]
    verdicts: list[dict[str, tuple[Verdict | None, str | None]]] = [{} for _ in questions]
    for (number, claims, _), reply in zip(parts, ask(chat.model, prompts, readers, chat.asks), strict=True):
        given = reply.value or (None,) * len(claims)
        verdicts[number] |= {
            claim: (verdict, reply.note) for claim, verdict in zip(claims, given, strict=True)
        }
    return list(verdicts)


def alignment_and_truthfulness(
    personas: Sequence[tuple[Sequence[str], frozenset[int]]], verdicts: Mapping[str, Verdict | None]
) -> tuple[float, float]:
    """Shares of a set's claims: shown by memories of their own persona, and by any; none contradicted.

    A claim that the set makes twice counts once, for the first persona that makes it.

    Args:
        personas: the claims of each and the places of its memories.
        verdicts: by claim.

    Returns:
        Both 0 to 1, 0 of a set without claims, and NaN where the judge left a claim without a verdict.
    """
    own: dict[str, frozenset[int]] = {}
    for claims, places in personas:
        for claim in claims:
            own.setdefault(claim, places)
    if not own:
        return 0.0, 0.0
    given = [(verdicts.get(claim), places) for claim, places in own.items()]
    known = [(verdict, places) for verdict, places in given if verdict is not None]
    if len(known) < len(given):
        return np.nan, np.nan
    aligned = [bool(verdict.shown_by & places) and not verdict.contradicted for verdict, places in known]
    return float(np.mean(aligned)), float(np.mean([verdict.is_true for verdict, _ in known]))
