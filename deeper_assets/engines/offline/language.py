"""The language of the stand-in's personas: what it can say, how it says it, and how any persona is read.

A persona says two things: tastes (themes in five degrees, from loved to disliked) and, perhaps, the habit of
marking, a level between the lowest mark (0) and the highest (1) put in words. The inventory below is data, so
that another model can be taught the language. `render` writes it; `read` understands it exactly, and
understands other people's prose as far as its cue words go.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import chain, islice
from zlib import crc32

from deeper_assets.engines.offline.themes import LITERAL, junk_words, kinds, prose_words, themes

HABITS: Mapping[float, tuple[str, ...]] = {
    1.0: (
        "gives the very highest mark to nearly everything",
        "hands out the top mark almost without exception",
        "finds nearly everything worthy of the top mark",
        "rarely gives anything but the top mark",
    ),
    0.875: (
        "gives the highest mark more often than not and a high mark otherwise",
        "moves between the highest mark and the mark just below it",
        "gives the top mark to most things and something close to it to the rest",
        "wavers only between the best mark and the second best",
    ),
    0.75: (
        "mostly gives high marks and seldom the very highest",
        "marks kindly but keeps the highest mark for rare delights",
        "is generous with good marks but not with perfect ones",
        "gives good marks as a matter of course and the best one only now and then",
    ),
    0.625: (
        "gives marks a little above the middle",
        "leans slightly to the kind side of the middle mark",
        "comes down just above the middle more often than below it",
        "is a shade kinder with marks than a middling judge",
    ),
    0.5: (
        "gives middling marks to most things",
        "marks most things squarely in the middle",
        "keeps close to the middle of the scale",
        "neither praises nor damns and settles for the middle mark",
    ),
    0.375: (
        "gives marks a little below the middle",
        "leans slightly to the stern side of the middle mark",
        "comes down just below the middle more often than above it",
        "is a shade sterner with marks than a middling judge",
    ),
    0.25: (
        "is sparing and mostly gives low marks",
        "marks sternly but keeps the lowest mark for rare failures",
        "is strict with marks but not without mercy",
        "gives poor marks as a matter of course and the worst one only now and then",
    ),
    0.125: (
        "gives the lowest mark more often than not and a low mark otherwise",
        "moves between the lowest mark and the mark just above it",
        "gives the bottom mark to most things and something close to it to the rest",
        "wavers only between the worst mark and the second worst",
    ),
    0.0: (
        "gives the very lowest mark to nearly everything",
        "hands out the bottom mark almost without exception",
        "finds nearly everything worthy of the bottom mark",
        "rarely gives anything but the bottom mark",
    ),
}
"""Level (fraction of the scale, 0 the lowest mark and 1 the highest) → verb phrases that say it."""

HABIT_SENTENCES = ("As a rule this $person $habit.", "When it comes to marks, this $person $habit.")

LEADS = ("With $theme", "When it comes to $theme", "As for $theme")
"""How a sentence about a theme begins. None of them tells how the theme is taken."""

VERDICTS: Mapping[int, tuple[str, ...]] = {
    2: (", delight is certain.", ", passion shows."),
    1: (", fondness shows.", ", pleasure comes easily."),
    0: (", nothing stands out.", ", one is much as another."),
    -1: (", enthusiasm fades.", ", the mood stays lukewarm."),
    -2: (", patience runs short.", ", disappointment comes quickly."),
}
"""Degree (2 loved, 1 liked, 0 neither, −1 doubted, −2 disliked) → how such a sentence ends."""

SHIFT: Mapping[int, float] = {2: 0.2, 1: 0.1, 0: 0.0, -1: -0.15, -2: -0.35}
"""Degree → by how much of the scale it moves a mark away from the usual one. Of five stars: what is liked
gets almost half a star more than usual and what is loved almost a whole one, for most people mark high and
have no more room; what leaves somebody lukewarm costs more than half a star, what is disliked almost one and
a half. Writers choose the degree that comes nearest to what they saw, and readers take them at their word."""

OPENINGS = (
    "This $person judges each thing on its own.",
    "This $person has tastes that show.",
    "This $person knows what to look for.",
)
"""The first sentence of a persona."""

REASONS = ("What counts is $why.", "What matters most is $why.", "The appeal lies in $why.")
"""What the foremost taste is valued for; `themes.toml` has a `why` for every theme."""

TEXTURES = (
    "Choices are made with some thought, and first impressions are given time to settle before they count.",
    "New finds are welcome as long as they keep the promises that were made for them.",
    "Fashion carries no great weight, and a famous name is taken as no more than a hint.",
    "Details get noticed, and so does carelessness, even where nobody else would have looked.",
    "Honest work counts for more here than clever packaging or a well-told sales story.",
    "A surprise is welcome when it has been earned, but not when it hides a weakness.",
    "Variety matters, yet the familiar is never far away on a long day.",
    "Value is weighed with a practical eye, and a bargain has to prove itself in use.",
    "Opinions are formed slowly and then held until there is a good reason to change them.",
    "Expectations are clear from the start, and they are applied to everything alike.",
    "The mood of the day plays its part in what gets picked, more than any plan.",
    "What others say is heard with patience but seldom decides the matter in the end.",
)
"""Sentences of temperament, without any taste or habit in them."""

PATTERNS = (*HABIT_SENTENCES, *OPENINGS, *LEADS, *chain(*VERDICTS.values()), *REASONS, *TEXTURES)
"""Every sentence of the language, or part of one."""

FEWEST_WORDS, MOST_TEXTURES = 80, 3
"""A persona gets sentences of temperament, one at least, until it has so many words or so many of them."""

_CUES: Mapping[str, str] = {
    "neither": r"nothing stands out|one is much as another",
    "plus2": r"loves?|loved|ador\w+|delight\w*|passion\w*|favou?rites?|treasur\w+|devoted|cherish\w*",
    "minus2": r"dislik\w+|hat(?:es?|ed)|loath\w+|detest\w*|despis\w+|(?:little|no) patience|patience runs"
    r"|avoid\w*|disappoint\w*|can(?:no|['’])t stand|annoy\w*|frustrat\w+",
    "not": r"not|[a-z]+n['’]t|never|no longer|rarely|seldom|hardly|without",
    "minus1": r"less enthusias\w+|enthusiasm fades|(?:less|little) interest|less taken|lukewarm|cools?"
    r"|indifferent|bor(?:ed|es|ing)|unimpress\w+|wary|tir(?:es|ed)|critical|skeptical|sceptical|struggl\w+",
    "plus1": r"lik(?:es?|ed|ing)|enjoy\w*|fond\w*|prefer\w*|drawn|appreciat\w+|favou?rs?|soft spot"
    r"|pleas(?:es?|ed|ure)|interest(?:ed)?|enthusiasm|enthusiastic|appeal(?:s|ing)|gravitat\w+|values",
}
"""Words that turn the rest of a sentence into a like or a dislike; the first kind that fits counts."""

_TOP = (
    r"(?:very )?(?:highest|top|full|maximum|perfect) (?:marks?|ratings?|scores?|grades?)|(?:five|5)[ -]stars?"
)
_BOTTOM = r"(?:very )?(?:lowest|bottom|minimum|worst) (?:marks?|ratings?|scores?|grades?)|(?:one|1)[ -]stars?"
_ALL = r"(?:nearly|almost|virtually|practically) (?:everything|all|always|every|any)|without exception|always"
_FEW = r"seldom|rarely|hardly|rare\b|reserve[sd]?|sparingly|keeps the|never"
_MARKS = (
    r"\b(?:marks?|marking|ratings?|rates|rater|scores?|scoring|grades?|grader|reviewer)\b"
    r"|\b(?:one|two|three|four|five|[1-5])[ -]stars?\b"
)
_GENEROUS = r"\b(?:high|good|generous\w*|lenient\w*|kind|kindly|positive\w*|(?:four|4)[ -]stars?)\b"

# Tried in this order on a sentence that speaks of marks; each rule names all that has to occur in it.
_LEVEL_CUES: Sequence[tuple[float, tuple[str, ...]]] = (
    (1.0, (_TOP, _ALL)),
    (0.0, (_BOTTOM, _ALL)),
    (0.75, (_TOP, _FEW)),
    (0.25, (_BOTTOM, _FEW)),
    (0.875, (_TOP,)),
    (0.125, (_BOTTOM,)),
    (
        0.625,
        (r"(?:slightly|little|just|bit|somewhat) (?:above|over|to the kind)|above (?:average|the middle)",),
    ),
    (
        0.375,
        (r"(?:slightly|little|just|bit|somewhat) (?:below|under|to the stern)|below (?:average|the middle)",),
    ),
    (0.5, (r"\bmiddl\w+|\bmoderate\w*|\baverage\b|(?:three|3)[ -]stars?",)),
    (0.875, (r"\bvery (?:high|generous)",)),
    (0.75, (_GENEROUS,)),
    (
        0.25,
        (r"\b(?:low|sparing\w*|harsh\w*|strict\w*|severe\w*|stern\w*|tough|critical|(?:two|2)[ -]stars?)\b",),
    ),
)
_SENTENCE = re.compile(r"[^.!?]+")
_SPEAKS_OF_MARKS = re.compile(_MARKS)
_LEVEL_RULES = [(level, [re.compile(cue) for cue in cues]) for level, cues in _LEVEL_CUES]

_MOST_READ = 40
"""How many tastes are read from one text: a bound on the work for texts that are no personas."""


@dataclass(frozen=True)
class Reading:
    """What a persona says: themes by degree, the foremost first, and the phrase of its marking habit.

    Attributes:
        degrees: theme phrase → degree, the foremost first.
        habit: one of the phrases in HABITS; None without any.
    """

    degrees: Mapping[str, int] = field(default_factory=dict)
    habit: str | None = None

    @property
    def level(self) -> float | None:
        """The habit as a fraction of the scale; None where the persona says nothing about it."""
        return None if self.habit is None else _habit_levels()[self.habit]


def render(reading: Reading, person: str = "person", seed: int = 0) -> str:
    """A persona that says `reading` of a `person` ("reader"), in three to fifteen sentences.

    The seed picks among equivalent wordings.
    """
    sentences = [_say(_pick(OPENINGS, seed, "opening"), person)]
    sentences += [taste_sentence(theme, degree, seed) for theme, degree in reading.degrees.items()]
    foremost = next((themes().get(theme) for theme, degree in reading.degrees.items() if degree > 0), None)
    if foremost:
        sentences.append(_say(_pick(REASONS, seed, "reason"), person, why=foremost.why))
    for number, texture in enumerate(_shuffled(TEXTURES, seed)):
        words = sum(len(sentence.split()) for sentence in sentences)
        if number and (number == MOST_TEXTURES or words >= FEWEST_WORDS):
            break
        sentences.append(texture)
    habit = [habit_sentence(reading.habit, person, seed)] if reading.habit else []
    return " ".join([*sentences, *habit])


def taste_sentence(theme: str, degree: int, seed: int = 0) -> str:
    """The sentence that says how a theme is taken."""
    verdict = _pick(VERDICTS[degree], seed, (theme, degree))
    return _pick(LEADS, seed, theme).replace("$theme", theme) + verdict


def habit_sentence(habit: str, person: str = "person", seed: int = 0) -> str:
    """The sentence that says a phrase of HABITS."""
    return _say(_pick(HABIT_SENTENCES, seed, "habit"), person, habit=habit)


def nearest_level(share: float) -> float:
    """The level of HABITS nearest to a share of the scale."""
    return min(HABITS, key=lambda level: abs(level - share))


@lru_cache(maxsize=4096)
def read(persona: str) -> Reading:
    """What any text says as a persona.

    Themes count by their phrase; other words of a sentence that likes or dislikes something count as themes
    of their own. A later word about a theme, or about the habit, qualifies an earlier one.
    """
    habit, rest = _take_habit(" ".join(persona.lower().split()))
    degrees = chain.from_iterable(map(_tastes, _SENTENCE.findall(rest)))
    return Reading(dict(islice(degrees, _MOST_READ)), habit)


def _take_habit(persona: str) -> tuple[str | None, str]:
    """The habit phrase that `persona` says or comes nearest to, and the text without that phrase."""
    phrases = _habit_pattern().findall(persona)
    if phrases:
        return phrases[-1], _habit_pattern().sub(" ", persona)
    for sentence in reversed(_SENTENCE.findall(persona)):
        if _SPEAKS_OF_MARKS.search(sentence):
            for level, cues in _LEVEL_RULES:
                if all(cue.search(sentence) for cue in cues):
                    return HABITS[level][0], persona
    return None, persona


def _tastes(sentence: str) -> Iterator[tuple[str, int]]:
    """The (theme, degree) pairs of one sentence; what comes before its first cue takes that cue's degree."""
    degree: int | None = None
    denied = False
    pending: list[str] = []
    for match in _taste_pattern().finditer(sentence):
        kind, text = match.lastgroup, match[0]
        if kind == "not":
            denied = True
        elif kind in _DEGREES:
            degree = -_DEGREES[kind] if denied else _DEGREES[kind]
            denied = False
            yield from ((theme, degree) for theme in pending)
            pending = []
        elif kind == "theme" or (len(text) > 3 and text not in _fillers()):
            theme = _spelling().get(text, text) if kind == "theme" else LITERAL + text
            if degree is not None:
                yield theme, degree
            else:
                pending.append(theme)


_DEGREES = {"neither": 0, "plus2": 2, "plus1": 1, "minus1": -1, "minus2": -2}


@cache
def _habit_levels() -> dict[str, float]:
    return {phrase: level for level, named in HABITS.items() for phrase in named}


@cache
def _habit_pattern() -> re.Pattern[str]:
    return re.compile(rf"\b(?:{_any_of(_habit_levels())})\b")


@cache
def _taste_pattern() -> re.Pattern[str]:
    """For lower-case text, single-spaced."""
    cues = "|".join(rf"(?P<{kind}>(?:{words})\b)" for kind, words in _CUES.items())
    theme = rf"(?P<theme>(?:{_any_of(_spelling())}|{LITERAL}[a-z]+)\b)"
    return re.compile(rf"\b(?=[a-z])(?:{theme}|{cues}|(?P<word>[a-z]+))")


@cache
def _spelling() -> dict[str, str]:
    """Lower-case theme phrase → the phrase as themes.toml spells it."""
    return {phrase.lower(): phrase for phrase in themes()}


@cache
def _fillers() -> frozenset[str]:
    """Words that are no taste of their own: those of the language's own patterns, and everyday ones."""
    texts = [*PATTERNS, *(kind.person for kind in kinds())]
    own = re.findall(r"[a-z]+", " ".join(texts).lower())
    return frozenset(own) | prose_words() | junk_words()


def _any_of(phrases: Mapping[str, object]) -> str:
    longest_first = sorted(phrases, key=len, reverse=True)
    return "|".join(map(re.escape, longest_first))


def _say(pattern: str, person: str, **words: str) -> str:
    for name, value in {"person": person, **words}.items():
        pattern = pattern.replace(f"${name}", value)
    return pattern


def _pick(options: Sequence[str], seed: int, what: object) -> str:
    return options[crc32(f"{seed} {what}".encode()) % len(options)]


def _shuffled(options: Sequence[str], seed: int) -> Iterator[str]:
    return iter(sorted(options, key=lambda option: crc32(f"{seed} {option}".encode())))
