"""A chat model that fits in a file: the embedded stand-in, for running everything without a key.

It is a stand-in and nothing more. It reads the very prompts a real chat model gets and answers in the same
forms, and it imitates how frozen chat models are seen to behave: personas speak of tastes and often leave
unsaid how high someone marks; predictions follow the persona alone. Its constants were set by the reasoning
beside them, before any evaluation, and fitted on nobody's ratings. So figures made with it show the
mechanism, never how good a real model would be.

Every writer goes by the same rules, and old and new tastes are put together in one and the same way, so
IncUpdate and HierMerge come out nearly alike.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zlib import crc32

from deeper_assets.engines.offline.intents import intents, persona, verdicts
from deeper_assets.engines.offline.language import HABITS, SHIFT, Reading, nearest_level, read, render
from deeper_assets.engines.offline.tastes import combined, seen_in_ratings
from deeper_assets.engines.offline.themes import find_kind, title_words, words_of
from deeper_assets.method.domains import FIVE_STARS, Scale
from deeper_assets.method.protocols import Answer

NEUTRAL = 0.625
"""What a persona without a habit makes of an item that touches no taste: chat models politely stay somewhat
above the middle, between three and four of five stars."""

UNSAID = 0.75
"""Share of the texts in which a chat model, asked for tastes and for no rating, says nothing of how high
somebody marks. The same for every writer. It is a choice; that it is high agrees with the paper, whose best
baseline covers a fifth of the way from its first personas (0.964) to the users' median (0.520 at round 4)."""

_BLOCK = re.compile(
    r"<(persona|long_term_persona|short_term_persona|ratings|comparison|items|events|memories|notes|claims)>"
    r"\n?(.*?)\n?</\1>",
    re.DOTALL,
)
_NUMBER = r"-?\d+(?:\.\d+)?"
_RATED = re.compile(rf"- rated (?P<rating>{_NUMBER}): (?P<title>.*)")
_COMPARED = re.compile(rf"- predicted {_NUMBER}, actual (?P<rating>{_NUMBER}): (?P<title>.*)")
_SCALE = re.compile(rf"from ({_NUMBER}) to ({_NUMBER}) in steps of ({_NUMBER})")


@dataclass(frozen=True)
class OfflineChatModel:
    """Answers the prompts of `method.prompts`, whatever their wording: it goes by the blocks they hold.

    Attributes:
        unsaid: share of its personas that leave unsaid how high somebody marks.
    """

    unsaid: float = UNSAID

    @property
    def name(self) -> str:
        """Changes with anything that changes an answer."""
        return "offline-chat-2" if self.unsaid == UNSAID else f"offline-chat-2-unsaid-{self.unsaid:g}"

    def answer(
        self,
        prompts: Sequence[str],
        *,
        attempt: int = 0,  # noqa: ARG002
        schema: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> list[Answer]:
        """Answers each prompt by the prompt alone, at every attempt the same; none where it sees no task."""
        texts = [_answer(prompt, self.unsaid) for prompt in prompts]
        return [Answer(text) if text is not None else Answer(None, "no_answer") for text in texts]


@dataclass(frozen=True)
class _Material:
    """A prompt taken apart: block name → contents in order, the words outside them, and the prompt's hash."""

    blocks: dict[str, list[str]]
    prose: str
    number: int

    @classmethod
    def of(cls, prompt: str) -> "_Material":
        blocks: dict[str, list[str]] = {}
        for name, content in _BLOCK.findall(prompt):
            blocks.setdefault(name, []).append(content)
        return cls(blocks, _BLOCK.sub(" ", prompt), crc32(prompt.encode(errors="replace")))

    def persona(self, name: str) -> Reading:
        return read("\n".join(self.blocks[name]))

    def lines(self, name: str) -> list[str]:
        return [line for block in self.blocks[name] for line in block.split("\n")]

    def drawn(self, what: str) -> float:
        """A number in [0, 1) that depends on the prompt and on nothing else."""
        return crc32(f"{self.number} {what}".encode()) / 2**32

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

    def rated(self, name: str, line: re.Pattern[str]) -> list[tuple[str, float]]:
        matches = map(line.fullmatch, self.lines(name))
        return [(match["title"], float(match["rating"])) for match in matches if match]


def _answer(prompt: str, unsaid: float) -> str | None:
    material = _Material.of(prompt)
    given = material.blocks.keys()
    if "events" in given:
        return intents(material.lines("events"), find_kind(material.prose), material.drawn)
    if {"notes", "claims"} <= given:
        return verdicts(material.lines("claims"), material.lines("notes"))
    if "memories" in given:
        return persona(material.lines("memories"))
    if "items" in given:
        if "persona" in given:
            return _predictions(material, material.persona("persona"))
        return _predictions(material, _seen(material, "ratings", _RATED, 0)) if "ratings" in given else None
    if {"long_term_persona", "short_term_persona"} <= given:
        reading = _joined(material.persona("long_term_persona"), material.persona("short_term_persona"))
    elif "comparison" in given or "ratings" in given:
        block, line = ("comparison", _COMPARED) if "comparison" in given else ("ratings", _RATED)
        reading = _seen(material, block, line, unsaid)
        if "persona" in given:
            reading = _joined(material.persona("persona"), reading)
    else:
        return None
    return render(reading, find_kind(material.prose).person, seed=material.number)


def _predictions(material: _Material, persona: Reading) -> str | None:
    scale = material.scale
    if scale is None:
        return None
    titles = [line[2:] for line in material.lines("items") if line[:2] == "- "]
    return json.dumps(
        [{"item": title, "rating": predicted_rating(persona, title, scale)} for title in titles],
        ensure_ascii=False,
    )


def predicted_rating(persona: Reading, title: str, scale: Scale) -> float:
    """The mark on `scale` that `persona` would give `title` (rating points).

    The usual mark, moved by what the title's themes are worth together, at most as far as one taste can.
    """
    words = title_words(title)
    shift = sum(
        SHIFT[degree]
        for cues, degree in _taste_words(tuple(persona.degrees.items()))
        if not cues.isdisjoint(words)
    )
    shift = min(max(shift, SHIFT[-2]), SHIFT[2])
    usual = NEUTRAL if persona.level is None else persona.level
    return scale.mark_at(usual + shift)


@lru_cache(maxsize=4096)
def _taste_words(degrees: tuple[tuple[str, int], ...]) -> tuple[tuple[frozenset[str], int], ...]:
    return tuple((words_of(theme), degree) for theme, degree in degrees)


def _joined(old: Reading, new: Reading) -> Reading:
    """Both in one: what the newer one says stands first."""
    return Reading(combined(old.degrees, new.degrees), new.habit or old.habit)


def _seen(material: _Material, block: str, line: re.Pattern[str], unsaid: float) -> Reading:
    """What the ratings of a block show: tastes always, and how high somebody marks where that gets said."""
    rated = material.rated(block, line)
    if not rated:
        return Reading()
    degrees, level = seen_in_ratings(rated, find_kind(material.prose), material.assumed_scale)
    speaks = material.drawn("habit") >= unsaid
    named = HABITS[nearest_level(level)]
    return Reading(degrees, named[int(material.drawn("phrase") * len(named))] if speaks else None)
