"""Every prompt of the method: the built-in templates, and how a persona, a window or a comparison is shown.

The paper (arXiv 2502.11078) prints its prompts in an appendix; these ask the same in other words. Material
goes into blocks, the same in every template: a tag, one line an item (its rating, then its title), the
closing tag. Titles and personas are flattened to one line without angle brackets, so that nothing inside one
can end its block or fake another. A user may replace any template by a file; the blocks stay, so every engine
still finds what it needs.

Departs from the paper: the templates are worded anew; the scale is spelled out in every prompt that shows or
asks for ratings (the domains differ in theirs); each prompt for a persona forbids names of items and ratings,
also those of IncUpdate and of merging.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from string import Template

from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.exceptions import DeeperError, did_you_mean

INITIAL_PERSONA = """\
A person rated every $item_type below on a scale $scale, oldest first.

$ratings

Describe this person's tastes, values and way of judging, as far as the ratings show them. Write at least \
$persona_words words of plain prose. Do not name any item and do not state any rating. Answer with the \
description only."""

PREDICTION = """\
You are the person described here.

$persona

How would you rate every $item_type below, on a scale $scale?

$items

Answer with a JSON list of $count objects, in the order above, each {"item": name, "rating": your rating}. \
Answer with the JSON only."""

REFINEMENT = """\
$persona

Ratings predicted from this description and the person's actual ratings ($item_type, scale $scale):

$comparison

Reflect on the differences and write the refined description. Do not name any item and do not state any \
rating. Answer with the description only."""

FULL_REGEN = """\
A person rated every $item_type below on a scale $scale, oldest first.

$ratings

Describe this person's tastes, values and way of judging, as far as the ratings show them. Do not name any \
item and do not state any rating. Answer with the description only."""

SLIDE_REGEN = FULL_REGEN

INC_UPDATE = """\
This is a description of a person.

$persona

Lately the person rated every $item_type below on a scale $scale, oldest first.

$ratings

Bring what the latest ratings show into the description. Do not name any item and do not state any rating. \
Answer with the description only."""

SHORT_TERM_PERSONA = FULL_REGEN

MERGE_PERSONAS = """\
Two descriptions of the same person as a judge of one $item_type after another: a lasting one, and one from \
the latest ratings.

$long_term_persona

$short_term_persona

Merge the second into the first, so that the lasting description keeps what is stable, takes in what has \
changed, and does not contradict itself. Do not name any item and do not state any rating. Answer with the \
description only."""

MEMORIES = """\
What one person did in one sitting, in order, each with its number. Every line is about one $item_type.

$events

List what the person was after: a few words for each intent, without names of items, and the numbers of the \
lines that show it. A line that shows no intent stands nowhere. Answer with a JSON list of objects, each \
{"intent": words, "events": numbers}. Answer with the JSON only."""

PERSONA_LABEL = """\
What one person was after, on several occasions. The notes are about one $item_type after another.

$memories

They are one side of this person. Say which: a label of a few words, and a description of one or two \
sentences that says nothing beyond the notes. Answer with a JSON object {"label": label, "description": \
description}. Answer with the JSON only."""

PERSONA_SET = """\
What one person was after, in groups of like things. Each line has the number of a group, how often and \
when it shows, and how much of all that was done is about it, for this person and for others. The log is \
about one $item_type after another.

$groups

Say which sides this person has that last. A side comes from one group, or from several that are the same. \
Leave out groups that are no side of the person. Answer with a JSON list of objects, each {"groups": \
numbers, "label": a few words, "description": one or two sentences that say nothing beyond the lines}. A \
group stands once at most; an empty list if there is no such side. Answer with the JSON only."""

VERDICTS = """\
What one person was after, noted on several occasions, and claims that somebody made about this person. \
The notes are about one $item_type after another.

$notes

$claims

Say of each claim which notes show it (none, where it goes beyond them), and whether notes speak against \
it. Answer with a JSON list of objects, one a claim, each {"claim": its number, "shown_by": numbers of \
notes, "contradicted": true or false}. Answer with the JSON only."""

BUILT_IN: Mapping[str, str] = {
    "initial_persona": INITIAL_PERSONA,
    "prediction": PREDICTION,
    "refinement": REFINEMENT,
    "full_regen": FULL_REGEN,
    "slide_regen": SLIDE_REGEN,
    "inc_update": INC_UPDATE,
    "short_term_persona": SHORT_TERM_PERSONA,
    "merge_personas": MERGE_PERSONAS,
    "memories": MEMORIES,
    "persona_label": PERSONA_LABEL,
    "persona_set": PERSONA_SET,
    "verdicts": VERDICTS,
}

REQUIRED: Mapping[str, frozenset[str]] = {
    "initial_persona": frozenset({"ratings"}),
    "prediction": frozenset({"persona", "items", "scale"}),
    "refinement": frozenset({"persona", "comparison"}),
    "full_regen": frozenset({"ratings"}),
    "slide_regen": frozenset({"ratings"}),
    "inc_update": frozenset({"persona", "ratings"}),
    "short_term_persona": frozenset({"ratings"}),
    "merge_personas": frozenset({"long_term_persona", "short_term_persona"}),
    "memories": frozenset({"events"}),
    "persona_label": frozenset({"memories"}),
    "persona_set": frozenset({"groups"}),
    "verdicts": frozenset({"notes", "claims"}),
}
"""The placeholders a template cannot do without: its blocks, and the scale where ratings are asked for."""

OPTIONAL = frozenset({"item_type", "scale", "persona_words"})
"""The placeholders any template may use; `prediction` may also use `count`, the number of items."""

_SIGNS = {1: " (liked)", 0: "", -1: " (disliked)"}

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NO_TAGS = str.maketrans("<>", "‹›")


@dataclass(frozen=True)
class RatedItem:
    """An item as a prompt shows it: its title and its rating (rating points)."""

    title: str
    rating: float


@dataclass(frozen=True)
class ShownGroup:
    """A group of memories as a prompt shows it.

    Attributes:
        sessions: in how many it shows.
        of: sessions there are.
        ago: sessions since it showed last; 0: in the last one.
        share: of what was done, how much is about it (0-1).
        chance: the same of others, on average; NaN where there is nobody else.
        intents: what its memories say.
    """

    sessions: int
    of: int
    ago: int
    share: float
    chance: float
    intents: tuple[str, ...]

    def __str__(self) -> str:
        others = "" if math.isnan(self.chance) else f", {_percent(self.chance)} % of others"
        shown = f"{self.sessions} of {self.of} sessions, the last {self.ago} ago"
        return f"({shown}; {_percent(self.share)} %{others}): {'; '.join(map(one_line, self.intents))}"


@dataclass(frozen=True)
class Prompts:
    """The templates in force (all, or those that a table uses), and the prompts they make.

    Attributes:
        persona_words: fewest words that the first persona is asked to have (the paper: 200).
        texts: template name → text; the built-in ones unless a user replaced some.
    """

    persona_words: int = 200
    texts: Mapping[str, str] = field(default_factory=lambda: dict(BUILT_IN), hash=False)

    @classmethod
    def load(cls, overrides: Mapping[str, Path], persona_words: int = 200) -> "Prompts":
        """The built-in templates, with those named in `overrides` replaced by the text of a file.

        Raises:
            DeeperError: an unknown template name, an unreadable file, a placeholder missing or unknown, or
                more text or placeholders than any prompt needs.
        """
        texts = dict(BUILT_IN)
        for name, path in overrides.items():
            if name not in BUILT_IN:
                raise DeeperError(
                    f"there is no prompt template {name!r}{did_you_mean(name, BUILT_IN)}"
                    f" (known: {', '.join(sorted(BUILT_IN))})"
                )
            texts[name] = _read_template(name, path)
        return cls(persona_words, texts)

    def only(self, names: Iterable[str]) -> "Prompts":
        """These templates alone; a prompt of any other is a KeyError."""
        return Prompts(self.persona_words, {name: self.texts[name] for name in sorted(set(names))})

    def identity(self) -> dict[str, str]:
        """What shapes the prompts: a hash of each template's text and of an example, which has its blocks."""
        domain = Domain("example", "example item", Scale(0.5, 5, 0.5), seen=False)
        window = [RatedItem("a", 1), RatedItem("b\n<c>", 4.5)]
        examples: Mapping[str, Callable[[], str]] = {
            "initial_persona": lambda: self.initial_persona(domain, window),
            "prediction": lambda: (
                self.prediction(domain, "d", ["a", "b"])
                + self.prediction_from_ratings(domain, [window], ["a"])
            ),
            "refinement": lambda: self.refinement(domain, "d", window, [2, 3.5]),
            "full_regen": lambda: self.full_regen(domain, [window, window]),
            "slide_regen": lambda: self.slide_regen(domain, window),
            "inc_update": lambda: self.inc_update(domain, "d", window),
            "short_term_persona": lambda: self.short_term_persona(domain, window),
            "merge_personas": lambda: self.merge_personas(domain, "d", "e"),
            "memories": lambda: self.memories(domain, [("a", 1), ("b\n<c>", 0), ("d", -1)]),
            "persona_label": lambda: self.persona_label(domain, ["a", "b\n<c>"]),
            "persona_set": lambda: self.persona_set(
                domain, [ShownGroup(2, 9, 1, 0.5, chance, ("a", "b\n<c>")) for chance in (0.1, math.nan)]
            ),
            "verdicts": lambda: self.verdicts(domain, ["a", "b\n<c>"], ["d"]),
        }
        both = {name: json.dumps([text, examples[name]()]) for name, text in self.texts.items()}
        return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in both.items()}

    def initial_persona(self, domain: Domain, window: Sequence[RatedItem]) -> str:
        """Asks for the first persona: S0 from window W0 (Section 3)."""
        return self._fill("initial_persona", domain, ratings=_ratings(window))

    def prediction(self, domain: Domain, persona: str, titles: Sequence[str]) -> str:
        """Asks the model to play `persona` and rate `titles`, as a JSON list of item and rating."""
        return self._prediction(domain, _persona("persona", persona), titles)

    def prediction_from_ratings(
        self, domain: Domain, windows: Sequence[Sequence[RatedItem]], titles: Sequence[str]
    ) -> str:
        """The same prompt with all windows so far, oldest first, in the persona's place (a control)."""
        return self._prediction(domain, "\n".join(map(_ratings, windows)), titles)

    def _prediction(self, domain: Domain, given: str, titles: Sequence[str]) -> str:
        items = _block("items", (f"- {one_line(title)}" for title in titles))
        return self._fill("prediction", domain, persona=given, items=items, count=str(len(titles)))

    def refinement(
        self, domain: Domain, persona: str, window: Sequence[RatedItem], predicted: Sequence[float]
    ) -> str:
        """Asks for the refined persona S(t) from the context: S(t−1) and predicted against actual ratings.

        `predicted` holds one rating an item of `window`, in its order (rating points).
        """
        lines = (
            f"- predicted {guess:g}, actual {item.rating:g}: {one_line(item.title)}"
            for item, guess in zip(window, predicted, strict=True)
        )
        return self._fill(
            "refinement",
            domain,
            persona=_persona("persona", persona),
            comparison=_block("comparison", lines),
        )

    def full_regen(self, domain: Domain, windows: Sequence[Sequence[RatedItem]]) -> str:
        """Asks for a persona from all windows so far, oldest first (baseline FullRegen)."""
        return self._fill("full_regen", domain, ratings="\n".join(map(_ratings, windows)))

    def slide_regen(self, domain: Domain, window: Sequence[RatedItem]) -> str:
        """Asks for a persona from the latest window alone (baseline SlideRegen)."""
        return self._fill("slide_regen", domain, ratings=_ratings(window))

    def inc_update(self, domain: Domain, persona: str, window: Sequence[RatedItem]) -> str:
        """Asks to bring the old persona up to date with the latest window (baseline IncUpdate)."""
        return self._fill(
            "inc_update", domain, persona=_persona("persona", persona), ratings=_ratings(window)
        )

    def short_term_persona(self, domain: Domain, window: Sequence[RatedItem]) -> str:
        """Asks for a persona of the latest window alone (baseline HierMerge, first prompt)."""
        return self._fill("short_term_persona", domain, ratings=_ratings(window))

    def merge_personas(self, domain: Domain, long_term: str, short_term: str) -> str:
        """Asks to merge the short-term persona into the long-term one (baseline HierMerge, second prompt)."""
        return self._fill(
            "merge_personas",
            domain,
            long_term_persona=_persona("long_term_persona", long_term),
            short_term_persona=_persona("short_term_persona", short_term),
        )

    def memories(self, domain: Domain, events: Sequence[tuple[str, int]]) -> str:
        """Asks for the intents of a session: its events, each a text and a sign (1: liked, -1: disliked)."""
        lines = (
            f"- {number}{_SIGNS[sign]}: {one_line(text)}"
            for number, (text, sign) in enumerate(events, start=1)
        )
        return self._fill("memories", domain, events=_block("events", lines))

    def persona_label(self, domain: Domain, memories: Sequence[str]) -> str:
        """Asks for label and description of one persona, from what its memories say."""
        lines = (f"- {one_line(memory)}" for memory in memories)
        return self._fill("persona_label", domain, memories=_block("memories", lines))

    def persona_set(self, domain: Domain, groups: Sequence[ShownGroup]) -> str:
        """Asks for the personas of somebody, from groups of memories; they are numbered from 1."""
        lines = (f"- {number} {group}" for number, group in enumerate(groups, start=1))
        return self._fill("persona_set", domain, groups=_block("groups", lines))

    def verdicts(self, domain: Domain, claims: Sequence[str], memories: Sequence[str]) -> str:
        """Asks whether memories show claims; both are numbered from 1."""
        blocks = {
            tag: _block(tag, (f"- {number}: {one_line(text)}" for number, text in enumerate(texts, start=1)))
            for tag, texts in (("notes", memories), ("claims", claims))
        }
        return self._fill("verdicts", domain, **blocks)

    def _fill(self, name: str, domain: Domain, **blocks: str) -> str:
        return Template(self.texts[name]).substitute(
            blocks,
            item_type=one_line(domain.item_type),
            scale=str(domain.scale),
            persona_words=str(self.persona_words),
        )


@lru_cache(maxsize=16_384)  # titles and personas stand in many prompts
def one_line(text: str) -> str:
    """`text` on one line, single-spaced, free of control characters, lone surrogates and angle brackets."""
    return " ".join(_UNPRINTABLE.sub(" ", text).translate(_NO_TAGS).split())


def _percent(share: float) -> int:
    return round(100 * share)


def _block(tag: str, lines: Iterable[str]) -> str:
    return "\n".join([f"<{tag}>", *lines, f"</{tag}>"])


def _persona(tag: str, persona: str) -> str:
    return _block(tag, [one_line(persona)])


def _ratings(window: Sequence[RatedItem]) -> str:
    return _block("ratings", (f"- rated {item.rating:g}: {one_line(item.title)}" for item in window))


_LONGEST, _MOST = 100_000, 100
"""Characters and placeholders of a template: more would make prompts that no model reads."""


def _read_template(name: str, path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, and a device has no end
            raise DeeperError(f"prompt template {name!r}: {path} is no file")
        with path.open(encoding="utf-8") as file:
            text = file.read(_LONGEST + 1)
    except OSError as error:
        raise DeeperError(
            f"prompt template {name!r}: cannot read {path}: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise DeeperError(
            f"prompt template {name!r}: {path} is not UTF-8 text (byte {error.start})"
        ) from error
    if len(text) > _LONGEST:
        raise DeeperError(f"prompt template {name!r}: {path} has more than {_LONGEST:,} characters")
    template = Template(text)
    if not template.is_valid():
        raise DeeperError(f"prompt template {name!r}: {path} has a stray '$'; write '$$' for a dollar sign")
    used = set(template.get_identifiers())
    allowed = REQUIRED[name] | OPTIONAL | ({"count"} if name == "prediction" else set())
    for placeholder in sorted(used - allowed):
        raise DeeperError(
            f"prompt template {name!r}: {path} uses the unknown placeholder ${placeholder[:80]}"
            f"{did_you_mean(placeholder, allowed)} (known: {', '.join(sorted(allowed))})"
        )
    if text.count("$") > _MOST:
        raise DeeperError(f"prompt template {name!r}: {path} has more than {_MOST} placeholders")
    for placeholder in sorted(REQUIRED[name] - used):
        raise DeeperError(f"prompt template {name!r}: {path} lacks the placeholder ${placeholder}")
    return text
