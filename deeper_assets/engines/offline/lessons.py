"""The text that the offline policy learns from: generated prompts and answers, no rating of a real person.

Refinements teach it to write well-formed personas that pick their themes from the prompt; in these answers,
degrees of taste and the habit of marking have nothing to do with any rating. Exercises teach it to read:
asked what habit ratings show, it tells.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from deeper_assets.engines.offline.chat_model import predicted_rating
from deeper_assets.engines.offline.language import (
    HABITS,
    REMARKS,
    TEXTURES,
    Reading,
    habit_sentence,
    render,
)
from deeper_assets.engines.offline.themes import LITERAL, Kind, kinds
from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.prompts import Prompts, RatedItem

SEED = 1

EXERCISES = 0.35
"""Share of the examples that ask what habit ratings show and are answered in a sentence."""

KEEPS_HABIT = 0.1
"""Share of personas that repeat the old one's habit; the rest say any, whatever the ratings are."""

GOES_WITH = 3.0
"""Times as likely is a habit where the old persona has the sentence of temperament that it goes with. Were
all equally likely everywhere, the same few would be likelier by a hair, and nothing else would ever be
sampled with a small top_p. So other ones come first for every person, and all are tried."""

PLAIN_HABIT, PLAIN_WEIGHT = HABITS[0.625][0], 1.3 * GOES_WITH
"""What the stand-in assumes of whoever has no habit, likelier than any other: decoded greedily, the untrained
policy changes little by it."""

SCALES = (Scale(1, 5, 1), Scale(0.5, 5, 0.5), Scale(1, 10, 1))
PHRASES = [(level, phrase) for level, named in HABITS.items() for phrase in named]
"""Every habit: its level and a phrase that says it."""

QUESTION = "\n\nHow does this person mark? Answer in one sentence."
_PERSONA_END = "</persona>\n\n"


@dataclass(frozen=True)
class Example:
    """A generated prompt and an answer to it.

    Attributes:
        prompt: ends where the answer begins.
        answer: a persona or, in an exercise, the sentence of a habit.
        habits: how likely each phrase of HABITS would have been said in this answer; they sum to 1. Learning
            from these, not from the one that was drawn, leaves no phrase likelier than another by chance.
    """

    prompt: str
    answer: str
    habits: tuple[float, ...]


def lessons(seed: int) -> Iterator[Example]:
    """Refinements and exercises without end, as the policy is taught them."""
    chance = random.Random(seed)
    refinements, exercises = generate(chance.getrandbits(32)), generate_exercises(chance.getrandbits(32))
    while True:
        yield next(exercises if chance.random() < EXERCISES else refinements)


def generate(seed: int) -> Iterator[Example]:
    """Generated prompts and refined personas. Nothing in an answer depends on a rating of its prompt."""
    chance = random.Random(seed)
    while True:
        case = _Case.of(chance)
        prompt = case.prompt(chance)
        person = case.kind.person
        tastes = render(_new_tastes(case.old, case.shown, chance), person, chance.getrandbits(32))
        habits = _habits_after(case.old.habit, case.persona)
        habit = chance.choices(PHRASES, habits)[0][1]
        sentence = habit_sentence(habit, person, chance.getrandbits(32))
        yield Example(prompt, f"{tastes} {sentence}", habits)


def generate_exercises(seed: int) -> Iterator[Example]:
    """Ratings, and the sentence that says which habit they show: the level nearest to their mean."""
    chance = random.Random(seed)
    while True:
        case = _Case.of(chance)
        prompt = case.prompt(chance)
        # The ratings, without the old persona before them and what is asked for after them.
        ratings = prompt[prompt.index(_PERSONA_END) + len(_PERSONA_END) : prompt.rindex("\n\n")]
        scale = case.domain.scale
        mean = sum(item.rating for item in case.window) / len(case.window)
        shown = (mean - scale.lowest) / (scale.highest - scale.lowest)
        level = min(HABITS, key=lambda level: abs(level - shown))
        habits = tuple((own == level) / len(HABITS[level]) for own, _ in PHRASES)
        habit = chance.choice(HABITS[level])
        yield Example(
            ratings + QUESTION, habit_sentence(habit, case.kind.person, chance.getrandbits(32)), habits
        )


@dataclass(frozen=True)
class _Case:
    """What one prompt is made of: a person's old persona, and a window with what was predicted of it."""

    kind: Kind
    domain: Domain
    window: list[RatedItem]
    shown: list[str]
    old: Reading
    persona: str
    predicted: list[float]

    @classmethod
    def of(cls, chance: random.Random) -> "_Case":
        kind, scale = chance.choice(kinds()), chance.choices(SCALES, (2, 1, 0.3))[0]
        domain = Domain("generated", chance.choice(kind.item_types), scale, seen=True)
        window, shown = _window(kind, scale, chance)
        old = _old_reading(kind, chance)
        persona = render(old, kind.person, chance.getrandbits(32))
        predicted = [predicted_rating(old, item.title, scale) for item in window]
        return cls(kind, domain, window, shown, old, persona, predicted)

    def prompt(self, chance: random.Random) -> str:
        """That of refinement or, less often, IncUpdate's."""
        prompts = Prompts()
        if chance.random() < 0.75:
            return prompts.refinement(self.domain, self.persona, self.window, self.predicted)
        return prompts.inc_update(self.domain, self.persona, self.window)


def _window(kind: Kind, scale: Scale, chance: random.Random) -> tuple[list[RatedItem], list[str]]:
    """Ten rated items (sometimes fewer), and the themes their titles signal."""
    level, shown = chance.random(), []
    window = []
    for _ in range(10 if chance.random() < 0.8 else chance.randint(4, 9)):
        title = []
        for theme in chance.choices(kind.themes, k=chance.choice((0, 1, 1, 2))):
            title.append(chance.choice(theme.foremost or ("-",)))
            shown.append(theme.phrase)
        window.append(RatedItem(" ".join(title) or "-", _mark(scale, level, chance)))
    return window, list(dict.fromkeys(shown))


def _mark(scale: Scale, level: float, chance: random.Random) -> float:
    around = min(max(chance.gauss(level, 0.15), 0), 1)
    return scale.nearest(scale.lowest + around * (scale.highest - scale.lowest))


def _old_reading(kind: Kind, chance: random.Random) -> Reading:
    named = [theme.phrase for theme in chance.sample(kind.themes, k=chance.randint(0, 8))]
    if kind.words and chance.random() < 0.3:
        named.insert(0, LITERAL + chance.choice(sorted(kind.words)))
    return Reading.of(_degrees(named, chance), _any_habit(chance) if chance.random() < 0.6 else None)


def _new_tastes(old: Reading, shown: Sequence[str], chance: random.Random) -> Reading:
    """Some themes of the old persona and of the titles, in degrees drawn anew."""
    kept = {theme: degree for theme, degree in old.degrees.items() if chance.random() < 0.6}
    new = [theme for theme in shown if theme not in old.degrees]
    taken = _degrees(chance.sample(new, k=min(len(new), chance.choice((0, 1, 2)))), chance)
    return Reading.of({**kept, **taken})


def _habits_after(old: str | None, persona: str) -> tuple[float, ...]:
    """How likely each habit follows the old one and `persona`: nothing in it comes from a rating."""
    weights = [
        PLAIN_WEIGHT if habit == PLAIN_HABIT else GOES_WITH if _goes_with()[habit] in persona else 1.0
        for _, habit in PHRASES
    ]
    kept = [KEEPS_HABIT * (phrase == old) for _, phrase in PHRASES]
    rest = (1 - sum(kept)) / sum(weights)
    return tuple(keep + rest * weight for keep, weight in zip(kept, weights, strict=True))


@cache
def _goes_with() -> dict[str, str]:
    """Habit → the texture it goes with; every texture has as many."""
    mixed = random.Random(SEED).sample(PHRASES, k=len(PHRASES))
    return {habit: TEXTURES[i % len(TEXTURES)] for i, (_, habit) in enumerate(mixed)}


def _any_habit(chance: random.Random) -> str:
    if chance.random() < 0.15:
        return chance.choice(list(REMARKS.values()))
    return chance.choice(PHRASES)[1]


def _degrees(named: Iterable[str], chance: random.Random) -> dict[str, int]:
    return {theme: chance.choice((2, 1, 1, -1, -2)) for theme in named}
