"""Whether what a model wrote can be used as a persona: the same judgement of candidates and of every update.

A text that was cut, holds no persona, or repeats its prompt is none. A persona may repeat the old one.
"""

import re
from dataclasses import dataclass

from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.leaks import Item, Words, items_of, lists_ratings
from deeper_assets.method.parsing import parse_persona
from deeper_assets.method.prompts import one_line
from deeper_assets.method.protocols import Sample

ECHOED_WORDS = 8
"""Words of the instructions in a row that make an echo. The shortest instruction that models are seen to
repeat, "Do not name any item and do not state any rating", has eleven; what a persona shares with them by
chance, "tastes, values and way of judging", has six."""

_ECHO = "echo"
_BLOCK = re.compile(r"<(\w+)>\n(.*?)\n</\1>", re.DOTALL)
_WRAPPING = "persona"
"""Blocks whose tag ends so hold personas; an answer may be wrapped in such tags."""


@dataclass(frozen=True)
class Shown:
    """The parts of a prompt that a persona has no reason to repeat.

    Attributes:
        tags: the marks of its blocks but personas.
        lines: the lines of these blocks, as words.
        runs: ECHOED_WORDS of its instructions in a row, wherever they begin.
        items: what these lines give marks to; nothing where the old persona lists such marks itself.
    """

    tags: tuple[str, ...]
    lines: tuple[str, ...]
    runs: tuple[str, ...]
    items: frozenset[Item]

    @classmethod
    def of(cls, prompt: str, persona: str) -> "Shown":
        """What `prompt` shows beside the old `persona`; what stands in there may be repeated."""
        blocks = [(tag, body) for tag, body in _BLOCK.findall(prompt) if not tag.endswith(_WRAPPING)]
        lines = [line for _, body in blocks for line in body.split("\n")]
        runs = [
            " ".join(words[at : at + ECHOED_WORDS])
            for part in _BLOCK.sub("\0", prompt).split("\0")
            for words in [Words.of(part).words]
            for at in range(len(words) - ECHOED_WORDS + 1)
        ]
        old = Words.of(persona)
        new = tuple(
            line for line in (" ".join(Words.of(line).words) for line in lines) if not old.holds(line)
        )
        items = items_of(new)
        return cls(
            tuple(mark for tag, _ in blocks for mark in (f"<{tag}>", f"</{tag}>") if mark not in persona),
            new,
            tuple(run for run in runs if not old.holds(run)),
            frozenset() if lists_ratings(persona, items) else items,
        )

    def persona(self, answer: str | None) -> str:
        """The persona in a model's answer to the prompt.

        Raises:
            UnreadableAnswer: with a word out of `parsing.REASONS`.
        """
        persona = parse_persona(answer)
        if self._echoed_by(answer or ""):
            raise UnreadableAnswer(_ECHO)
        return persona

    def _echoed_by(self, answer: str) -> bool:
        words = Words.of(answer)
        return (
            any(mark in answer for mark in self.tags)
            or lists_ratings(answer, self.items)
            or any(words.holds(part) for part in (*self.lines, *self.runs))
        )


def judged(sample: Sample, shown: Shown) -> tuple[str, str | None]:
    """A policy's persona, or what text there is, and the reason against it: truncated, empty or echo."""
    try:
        text, reason = shown.persona(sample.text), None
    except UnreadableAnswer as unreadable:
        text, reason = one_line(sample.text), _ECHO if str(unreadable) == _ECHO else "empty"
    return text, reason if sample.finished else "truncated"
