"""The text that the offline policy learns from: generated prompts and answers, no rating of a real person.

Refinements teach it to write well-formed personas that name the themes of the prompt, in the lexicon's order,
for so small a model loses track of any other. In these answers, degrees of taste and the habit of marking are
the old persona's or any; they have nothing to do with the prompt's ratings. Exercises teach it to read: asked
what a person is like of whom there is an old persona and a window of ratings, it says what the person was
made with, as far as the two show it. Ten ratings are few, so the old persona counts for much: the answer
weighs both. Drills, before either, are short exercises without an old persona.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from deeper_assets.engines.offline.chat_model import predicted_rating
from deeper_assets.engines.offline.language import (
    HABITS,
    LEADS,
    SHIFT,
    TEXTURES,
    VERDICTS,
    Reading,
    habit_sentence,
    nearest_level,
    render,
    taste_sentence,
)
from deeper_assets.engines.offline.themes import Kind, Theme, kinds, themes
from deeper_assets.method.domains import Domain, Scale
from deeper_assets.method.prompts import Prompts, RatedItem

SEED = 1

EXERCISES = 0.6
"""Share of the examples that ask what a person is like, and are answered by the truth."""

ASKS = 0.5
"""Share of the exercises with a question. Where none is asked, the same is answered: refining as it is taught
here is the exception, which a policy can unlearn."""

KEEPS_TASTE, KEEPS_HABIT = 0.6, 0.5
"""Shares of an old persona's tastes and of its habits that a refined one repeats, as whoever refines a text
leaves most of it alone. Instead of the rest it says any, whatever the ratings are. If nothing were kept,
candidates would differ in so much that rewards could hardly tell which part of them was right."""

PLAIN_HABIT = HABITS[0.625][0]
"""What the stand-in assumes of whoever has no habit."""

LEVELS: Mapping[float, float] = {
    1.0: 0.05,
    0.875: 0.16,
    0.75: 0.22,
    0.625: 0.19,
    0.5: 0.14,
    0.375: 0.1,
    0.25: 0.07,
    0.125: 0.04,
    0.0: 0.03,
}
"""How often each level of marking is said in refinements: roughly as often as people have it."""

PLAIN = 3.0
"""Times as likely as any other are this habit and, of the degrees of taste, none: decoded greedily, the
untrained policy changes little."""

SCALES = (Scale(1, 5, 1), Scale(0.5, 5, 0.5), Scale(1, 10, 1))
PHRASES = [(level, phrase) for level, named in HABITS.items() for phrase in named]
"""Every habit: its level and a phrase that says it."""

CIRCLE = (4, 10)
"""Fewest and most themes that a person meets with, all of one kind of item."""

DATED = 0.5
"""Share of the people, where the kind of item has themes of decades, whose titles all have a year, as in some
catalogues: then every title speaks of one theme more."""

QUIET, TWO = 0.12, 0.12
"""Shares of the titles that speak of no theme and of two, of most people."""

FIRST_TEXTURES = TEXTURES[: len(LEADS)]
"""In the last lessons, the sentences of temperament begin with one of these, as many as there are ways to
begin another theme. Greedy decoding takes the likeliest token: if any of twelve could come, the end would
have to be four times as likely as another theme."""

SPARSE = 0.6
"""Share of the people, in the last lessons, of whose titles more than QUIET say nothing of a theme: two
thirds on average, as in many catalogues. Where nothing in a prompt speaks of a theme, its answer has none."""

FOCUSES = (1, 3, 8, 20)
"""In the last lessons, how much more often people meet with the first themes of their circle than with the
others: 1 a little; 20 with hardly any other, as people who rate ten love stories in a row."""

STRAY = 0.4
"""Share of titles with a word that speaks of another kind of item: snow on a book is no sports gear."""

QUESTION = "\n\nWhat does this person like and dislike, and how does this person mark?"


@dataclass(frozen=True)
class Example:
    """A generated prompt and an answer to it.

    Attributes:
        prompt: ends where the answer begins.
        answer: a persona.
        habits: how likely each phrase of HABITS would have been said in this answer; they sum to 1. Learning
            from these, not from the one that was drawn, leaves no phrase likelier than another by chance.
            Empty where the answer says none.
        exercise: whether the answer tells what is true.
    """

    prompt: str
    answer: str
    habits: tuple[float, ...]
    exercise: bool


def lessons(seed: int, last: bool = False) -> Iterator[Example]:
    """Refinements and exercises without end, as the policy is taught them; the last are other than the first.

    In the last ones, titles say little of most people, or always the same, so that an answer has few themes.
    """
    chance = random.Random(seed)
    refinements = generate(chance.getrandbits(32), last)
    exercises = generate_exercises(chance.getrandbits(32), last)
    while True:
        example = next(exercises if chance.random() < EXERCISES else refinements)
        yield _with_a_first_texture(example, chance) if last else example


def _with_a_first_texture(example: Example, chance: random.Random) -> Example:
    """With one of FIRST_TEXTURES before the others; see there."""
    said = sorted((texture for texture in TEXTURES if texture in example.answer), key=example.answer.index)
    first = chance.choice([texture for texture in FIRST_TEXTURES if texture not in said[1:]])
    return replace(example, answer=example.answer.replace(said[0], first))


def generate(seed: int, last: bool = False) -> Iterator[Example]:
    """Generated prompts and refined personas. Nothing in an answer depends on a rating of its prompt."""
    chance = random.Random(seed)
    while True:
        case = Case.of(chance, last)
        prompt = case.prompt(chance)
        person = case.person.kind.person
        tastes = _any_tastes(case, person, chance)
        habits = _habits_after(case.old.habit)
        habit = chance.choices(PHRASES, habits)[0][1]
        sentence = habit_sentence(habit, person, chance.getrandbits(32))
        yield Example(prompt, f"{tastes} {sentence}", habits, exercise=False)


def generate_exercises(seed: int, last: bool = False) -> Iterator[Example]:
    """An old persona and ratings, and what is true of the person: tastes that either shows, and the habit."""
    chance = random.Random(seed)
    while True:
        case = Case.of(chance, last)
        # As a prompt shows persona and ratings, with another question after them, or none.
        prompt = case.prompt(chance)
        prompt = prompt[: prompt.rindex("\n\n")] + (QUESTION if chance.random() < ASKS else "")
        level = nearest_level(case.person.level)
        habits = tuple((own == level) / len(HABITS[level]) for own, _ in PHRASES)
        tastes = render(Reading(case.true_tastes), case.person.kind.person, chance.getrandbits(32))
        sentence = habit_sentence(
            chance.choice(HABITS[level]), case.person.kind.person, chance.getrandbits(32)
        )
        yield Example(prompt, f"{tastes} {sentence}", habits, exercise=True)


def generate_drills(seed: int) -> Iterator[Example]:
    """A few ratings with no persona before them, and how each of their themes is taken."""
    chance = random.Random(seed)
    while True:
        person = Person.of(chance)
        degrees = {
            theme.phrase: chance.choice(list(VERDICTS))
            for theme in chance.sample(person.circle, k=chance.randint(2, min(6, len(person.circle))))
        }
        person = replace(person, tastes=degrees, noise=0.02)
        window = [
            RatedItem(_title([theme], person.kind, chance), person.mark(SHIFT[degrees[theme.phrase]], chance))
            for theme in person.circle
            if theme.phrase in degrees
        ]
        usual = person.scale.mark_at(person.level)
        domain = Domain("generated", person.kind.item_types[0], person.scale, seen=True)
        prompt = Prompts().refinement(domain, "-", window, [usual] * len(window))
        prompt = prompt[prompt.index("<comparison>") : prompt.rindex("\n\n")] + QUESTION
        named = person.in_order(degrees)
        number = chance.getrandbits(32)
        yield Example(
            prompt,
            " ".join(taste_sentence(theme, degrees[theme], number) for theme in named),
            (),
            exercise=True,
        )


@dataclass(frozen=True)
class Person:
    """Whose ratings are generated: a kind of item, a scale, a level and what tastes add to it.

    Attributes:
        eras: the themes of decades, for whom every title has a year; they are in the circle too.
        silent: share of the titles that speak of no theme, a decade aside.
        focus: see FOCUSES.
        level: what is given where no taste is touched, 0 the lowest mark and 1 the highest.
        tastes: theme → degree, see `language.SHIFT`.
        noise: standard deviation of a rating, share of the scale.
    """

    kind: Kind
    circle: tuple[Theme, ...]
    eras: tuple[Theme, ...]
    silent: float
    focus: int
    scale: Scale
    level: float
    tastes: dict[str, int]
    noise: float

    @classmethod
    def of(cls, chance: random.Random, last: bool = False) -> "Person":
        """Somebody."""
        kind, scale = chance.choice(kinds()), chance.choices(SCALES, (2, 1, 0.3))[0]
        others = [theme for theme in kind.themes if not _is_era(theme)]
        eras = tuple(filter(_is_era, kind.themes)) if chance.random() < DATED else ()
        # The last three decades are most of what there is.
        eras = eras[-chance.randint(2, 3) :]
        circle = (*chance.sample(others, k=chance.randint(*CIRCLE)), *eras)
        named = [theme.phrase for theme in chance.sample(circle, k=len(circle))]
        likes, dislikes = chance.randint(0, 3), chance.randint(0, 4)
        tastes = {theme: chance.choice((2, 1)) for theme in named[:likes]}
        tastes |= {theme: chance.choice((-1, -2, -2)) for theme in named[likes : likes + dislikes]}
        level, noise = chance.triangular(0.1, 1.0, 0.8), chance.uniform(0.02, 0.15)
        silent = 1 - chance.random() ** 2 if last and chance.random() < SPARSE else QUIET
        focus = chance.choice(FOCUSES) if last else 1
        return cls(kind, circle, eras, silent, focus, scale, level, tastes, noise)

    def window(self, chance: random.Random) -> tuple[list[RatedItem], list[str]]:
        """Ten rated items (sometimes fewer) and their themes, those first in the circle most often."""
        shown: list[str] = []
        window = []
        circle = self.circle[: len(self.circle) - len(self.eras)]
        spoken = 1 - self.silent
        two = spoken * TWO / (1 - QUIET)
        often = [place**self.focus for place in range(len(circle), 0, -1)]
        for _ in range(10 if chance.random() < 0.8 else chance.randint(4, 9)):
            number = chance.choices((0, 1, 2), (self.silent, spoken - two, two))[0]
            named = list(dict.fromkeys(chance.choices(circle, often, k=number)))
            named += self._era(chance)
            shown += [theme.phrase for theme in named]
            shift = sum(SHIFT[self.tastes.get(theme.phrase, 0)] for theme in named)
            window.append(RatedItem(_title(named, self.kind, chance), self.mark(shift, chance)))
        return window, list(dict.fromkeys(shown))

    def _era(self, chance: random.Random) -> list[Theme]:
        """A title's decade, if titles have a year; with focus, the latest most often."""
        if not self.eras:
            return []
        if self.focus == 1:
            return [chance.choice(self.eras)]
        return chance.choices(self.eras, [place**self.focus for place in range(1, len(self.eras) + 1)])

    def in_order(self, spoken: Iterable[str]) -> list[str]:
        """Those themes, as the lexicon lists them."""
        some = set(spoken)
        return [theme.phrase for theme in self.kind.themes if theme.phrase in some]

    def mark(self, shift: float, chance: random.Random) -> float:
        """A rating (rating points) of what is worth `shift` more than usual, share of the scale."""
        share = min(max(self.level + shift + chance.gauss(0, self.noise), 0), 1)
        return self.scale.mark_at(share)


@dataclass(frozen=True)
class Case:
    """What one prompt is made of: a person's old persona, and a window with what was predicted of it."""

    person: Person
    domain: Domain
    window: list[RatedItem]
    shown: list[str]
    old: Reading
    persona: str
    predicted: list[float]

    @classmethod
    def of(cls, chance: random.Random, last: bool = False) -> "Case":
        """Somebody's."""
        person = Person.of(chance, last)
        domain = Domain("generated", chance.choice(person.kind.item_types), person.scale, seen=True)
        window, shown = person.window(chance)
        old = _old_reading(person, chance)
        persona = render(old, person.kind.person, chance.getrandbits(32))
        predicted = [predicted_rating(old, item.title, person.scale) for item in window]
        return cls(person, domain, window, shown, old, persona, predicted)

    def prompt(self, chance: random.Random) -> str:
        """That of refinement or, less often, IncUpdate's."""
        prompts = Prompts()
        if chance.random() < 0.8:
            return prompts.refinement(self.domain, self.persona, self.window, self.predicted)
        return prompts.inc_update(self.domain, self.persona, self.window)

    @property
    def spoken(self) -> list[str]:
        """The themes that old persona or titles speak of."""
        return self.person.in_order([*self.old.degrees, *self.shown])

    @property
    def true_tastes(self) -> dict[str, int]:
        """The person's tastes, as far as the prompt speaks of them."""
        return {theme: self.person.tastes.get(theme, 0) for theme in self.spoken}


def _title(named: Sequence[Theme], kind: Kind, chance: random.Random) -> str:
    """A title that signals the themes, sometimes beside a stray word."""
    words = [chance.choice(_words(theme.phrase)) for theme in named]
    words += [chance.choice(_strays(kind))] if chance.random() < STRAY else []
    chance.shuffle(words)
    spelt = (f"({word[:3]}{chance.randrange(10)})" if word[0].isdigit() else word.title() for word in words)
    return " ".join(spelt) or "-"


def _old_reading(person: Person, chance: random.Random) -> Reading:
    """What an old persona may say: part of what is true, some of it wrong, and more or less of either."""
    known, wrong = max(chance.random(), chance.random()), 0.4 * chance.random()
    known *= min(1, 1 + QUIET - person.silent)  # of whom titles say nothing, little is known
    degrees = {}
    for theme in person.circle:
        true = person.tastes.get(theme.phrase, 0)
        if chance.random() < known * (1 if true else 0.6):
            near = [degree for degree in VERDICTS if abs(degree - true) == 1]
            degrees[theme.phrase] = (
                true if chance.random() > wrong else chance.choice([*near, *near, *VERDICTS])
            )
    named = list(degrees)
    chance.shuffle(named)
    habit = None
    if chance.random() < 0.7:
        seen = person.level + chance.gauss(0, 0.1)
        habit = (
            chance.choice(HABITS[nearest_level(seen)]) if chance.random() < 0.8 else chance.choice(PHRASES)[1]
        )
    return Reading({theme: degrees[theme] for theme in named}, habit)


def _any_tastes(case: "Case", person: str, chance: random.Random) -> str:
    """A persona of most themes of the old one and of the titles: the old one's degrees, or any."""
    weights = [PLAIN if degree == 0 else 1.0 for degree in VERDICTS]
    named = [theme for theme in case.spoken if chance.random() < 0.85]
    degrees = {
        theme: case.old.degrees[theme]
        if theme in case.old.degrees and chance.random() < KEEPS_TASTE
        else chance.choices(list(VERDICTS), weights)[0]
        for theme in named
    }
    return render(Reading(degrees), person, chance.getrandbits(32))


def _habits_after(old: str | None) -> tuple[float, ...]:
    """How likely each habit follows the old one: nothing in it comes from a rating."""
    weights = [
        LEVELS[level] / len(HABITS[level]) * (PLAIN if habit == PLAIN_HABIT else 1.0)
        for level, habit in PHRASES
    ]
    kept = [KEEPS_HABIT * (phrase == old) for _, phrase in PHRASES]
    rest = (1 - sum(kept)) / sum(weights)
    return tuple(keep + rest * weight for keep, weight in zip(kept, weights, strict=True))


def _is_era(theme: Theme) -> bool:
    return all(word[0].isdigit() for word in theme.words)


@cache
def _words(theme: str) -> tuple[str, ...]:
    """The title words that signal a theme; a year stands for its decade."""
    return tuple(sorted(themes()[theme].words))


@cache
def _strays(kind: Kind) -> tuple[str, ...]:
    """Title words that signal themes of other kinds of item alone."""
    own = {word for theme in kind.themes for word in theme.words}
    return tuple(sorted({word for theme in themes().values() for word in theme.words} - own))
