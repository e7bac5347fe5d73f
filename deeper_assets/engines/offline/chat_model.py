"""A chat model that fits in a file: the embedded stand-in, for running everything without a key.

It is a stand-in and nothing more. It reads the very prompts a real chat model gets and answers in the same
forms, and it imitates how frozen chat models are seen to behave: first personas speak of tastes and hardly of
how high someone marks; predictions follow the persona alone; asked to refine, it explains every miss by taste
and does not see the person's level of marking. Its constants were set by the reasoning beside them, before
any evaluation, and fitted on nobody's ratings. So figures made with it show the mechanism, never how good a
real model would be.

It puts old and new tastes together in one and the same way, so IncUpdate and HierMerge come out nearly alike;
and it takes misses for tastes, so that refining untrained helps where people mark high, unlike in the paper.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zlib import crc32

from deeper_assets.engines.offline.language import REMARKS, Reading, read, render
from deeper_assets.engines.offline.tastes import combined, tastes_after_misses, tastes_in_ratings
from deeper_assets.engines.offline.themes import find_kind, title_words, words_of
from deeper_assets.method.domains import FIVE_STARS, Scale
from deeper_assets.method.protocols import Answer

NEUTRAL = 0.625
"""What a persona without a habit makes of an item that touches no taste: chat models politely stay somewhat
above the middle, between three and four of five stars."""

SHIFT = {0: 0.0, 1: 0.25, 2: 0.375}
"""Degree of taste → shift without a habit: a liking is worth a star of five, a love one and a half."""

SHIFT_WITHIN_HABIT = {0: 0.0, 1: 0.08, 2: 0.15}
"""The same with a habit. The habit says where the marks lie; a taste alone tips only what lies between two,
and a strong one is worth just over half a star of five."""

_BLOCK = re.compile(
    r"<(persona|long_term_persona|short_term_persona|ratings|comparison|items)>\n?(.*?)\n?</\1>", re.DOTALL
)
_NUMBER = r"-?\d+(?:\.\d+)?"
_RATED = re.compile(rf"- (.*): rated ({_NUMBER})")
_COMPARED = re.compile(rf"- (.*): predicted ({_NUMBER}), actual ({_NUMBER})")
_SCALE = re.compile(rf"from ({_NUMBER}) to ({_NUMBER}) in steps of ({_NUMBER})")


class OfflineChatModel:
    """Answers the prompts of `method.prompts`, whatever their wording: it goes by the blocks they hold."""

    @property
    def name(self) -> str:
        """Changes with anything that changes an answer."""
        return "offline-chat-1"

    def answer(
        self,
        prompts: Sequence[str],
        *,
        attempt: int = 0,  # noqa: ARG002
        schema: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> list[Answer]:
        """Answers each prompt by the prompt alone, at every attempt the same; none where it sees no task."""
        texts = map(_answer, prompts)
        return [Answer(text) if text is not None else Answer(None, "no_answer") for text in texts]


@dataclass(frozen=True)
class _Material:
    """A prompt taken apart: block name → contents in order, and the words outside the blocks."""

    blocks: dict[str, list[str]]
    prose: str

    @classmethod
    def of(cls, prompt: str) -> "_Material":
        blocks: dict[str, list[str]] = {}
        for name, content in _BLOCK.findall(prompt):
            blocks.setdefault(name, []).append(content)
        return cls(blocks, _BLOCK.sub(" ", prompt))

    def persona(self, name: str) -> Reading:
        return read("\n".join(self.blocks[name]))

    @property
    def scale(self) -> Scale | None:
        match = _SCALE.search(self.prose)
        if match is None:
            return None
        lowest, highest, step = map(float, match.groups())
        return Scale(lowest, highest, step) if lowest < highest and step > 0 else None

    @property
    def assumed_scale(self) -> Scale:
        """Five stars where the prompt names no scale."""
        return self.scale or FIVE_STARS

    def lines(self, name: str, line: re.Pattern[str]) -> list[tuple[str, ...]]:
        matches = (line.fullmatch(text) for block in self.blocks[name] for text in block.split("\n"))
        return [match.groups() for match in matches if match]


def _answer(prompt: str) -> str | None:
    material = _Material.of(prompt)
    given = material.blocks.keys()
    if {"persona", "items"} <= given:
        return _predictions(material, material.persona("persona"))
    if {"ratings", "items"} <= given:
        return _predictions(material, _described(material))
    if {"persona", "comparison"} <= given:
        reading = _refined(material)
    elif {"long_term_persona", "short_term_persona"} <= given:
        reading = _merged(material)
    elif {"persona", "ratings"} <= given:
        reading = _updated(material)
    elif "ratings" in given:
        reading = _described(material)
    else:
        return None
    return render(reading, find_kind(material.prose).person, seed=crc32(prompt.encode(errors="replace")))


def _predictions(material: _Material, persona: Reading) -> str | None:
    scale = material.scale
    if scale is None:
        return None
    titles = [
        line[2:] for block in material.blocks["items"] for line in block.split("\n") if line[:2] == "- "
    ]
    return json.dumps(
        [{"item": title, "rating": predicted_rating(persona, title, scale)} for title in titles],
        ensure_ascii=False,
    )


def predicted_rating(persona: Reading, title: str, scale: Scale) -> float:
    """The mark on `scale` that `persona` would give `title` (rating points)."""
    words = title_words(title)
    degree = sum(of for cues, of in _taste_words(persona) if not cues.isdisjoint(words))
    shifts, base = (SHIFT, NEUTRAL) if persona.level is None else (SHIFT_WITHIN_HABIT, persona.level)
    shift = shifts[min(abs(degree), 2)] * (1 if degree > 0 else -1)
    return scale.nearest(scale.lowest + (base + shift) * (scale.highest - scale.lowest))


@lru_cache(maxsize=4096)
def _taste_words(persona: Reading) -> tuple[tuple[frozenset[str], int], ...]:
    return tuple((words_of(theme), degree) for theme, degree in persona.degrees.items())


def _described(material: _Material) -> Reading:
    """A first persona: tastes only, but for a mild remark where every rating is at an end of the scale."""
    return Reading.of(_rated_tastes(material), _remark(material))


def _updated(material: _Material) -> Reading:
    old = material.persona("persona")
    return Reading.of(combined(old.degrees, _rated_tastes(material)), old.habit or _remark(material))


def _merged(material: _Material) -> Reading:
    old, new = material.persona("long_term_persona"), material.persona("short_term_persona")
    return Reading.of(combined(old.degrees, new.degrees), old.habit or new.habit)


def _refined(material: _Material) -> Reading:
    old = material.persona("persona")
    misses = [
        (title, float(actual) - float(predicted))
        for title, predicted, actual in material.lines("comparison", _COMPARED)
    ]
    kind = find_kind(material.prose)
    return Reading.of(tastes_after_misses(old.degrees, misses, kind, material.assumed_scale), old.habit)


def _rated_tastes(material: _Material) -> dict[str, int]:
    rated = [(title, float(rating)) for title, rating in material.lines("ratings", _RATED)]
    return tastes_in_ratings(rated, find_kind(material.prose), material.assumed_scale)


def _remark(material: _Material) -> str | None:
    scale = material.scale
    marks = {float(rating) for _, rating in material.lines("ratings", _RATED)}
    if scale is None or len(marks) != 1:
        return None
    ends = {scale.highest: REMARKS[0.75], scale.lowest: REMARKS[0.25]}
    return ends.get(marks.pop())
