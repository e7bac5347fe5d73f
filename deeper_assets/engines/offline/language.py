"""The language of the stand-in's personas: what it can say, how it says it, and how any persona is read.

A persona says two things: tastes (themes in four degrees, from loved to disliked) and, perhaps, the habit of
marking, a level between the lowest mark (0) and the highest (1) put in words. The inventory below is data, so
that another model can be taught the language. `render` writes it; `read` understands it exactly, and
understands other people's prose as far as its cue words go.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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

REMARKS: Mapping[float, str] = {0.75: "little disappoints", 0.25: "little pleases"}
"""Level → the mild remark that a first persona may make, and no more."""

HABIT_SENTENCES = ("As a rule this $person $habit.", "When it comes to marks, this $person $habit.")
REMARK_SENTENCE = "All in all, $habit this $person."

TASTES: Mapping[int, tuple[str, ...]] = {
    2: (
        "Above all, this $person loves $themes.",
        "Nothing delights this $person more than $themes.",
        "This $person has a real passion for $themes.",
    ),
    1: (
        "This $person enjoys $themes.",
        "This $person is drawn to $themes.",
        "This $person has a liking for $themes.",
        "There is a clear fondness for $themes.",
        "Pleasure comes easily with $themes.",
    ),
    -1: (
        "This $person is less taken with $themes.",
        "Enthusiasm fades with $themes.",
        "This $person is lukewarm about $themes.",
        "Interest cools when it comes to $themes.",
    ),
    -2: (
        "This $person dislikes $themes.",
        "Patience runs short with $themes.",
        "Disappointment comes quickly with $themes.",
    ),
}
"""Degree (2 loved, 1 liked, −1 doubted, −2 disliked) → sentences that say it.

Of each, some name the person and some do not begin with "This", so that a persona can vary.
"""

OPENING = "This $person has broad tastes and takes things as they come."
"""The first sentence of a persona without anything loved or liked."""

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

PATTERNS = (*HABIT_SENTENCES, REMARK_SENTENCE, OPENING, *REASONS, *TEXTURES, *chain(*TASTES.values()))
"""Every sentence of the language."""

FEWEST_WORDS, MOST_SENTENCES = 80, 7

_CUES: Mapping[str, str] = {
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
        loves, likes, doubts, dislikes: theme phrases of degree 2, 1, −1 and −2.
        habit: one of the phrases in HABITS or REMARKS; None without any.
    """

    loves: tuple[str, ...] = ()
    likes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    dislikes: tuple[str, ...] = ()
    habit: str | None = None

    @property
    def level(self) -> float | None:
        """The habit as a fraction of the scale; None where the persona says nothing about it."""
        return None if self.habit is None else _habit_levels()[self.habit]

    @property
    def degrees(self) -> dict[str, int]:
        """Theme phrase → degree, the loved ones first."""
        by_degree = {2: self.loves, 1: self.likes, -1: self.doubts, -2: self.dislikes}
        return {theme: degree for degree, named in by_degree.items() for theme in named}

    @classmethod
    def of(cls, degrees: Mapping[str, int], habit: str | None = None) -> "Reading":
        """The reading with these degrees (2, 1, −1, −2), which keeps their order."""
        loves, likes, doubts, dislikes = (
            tuple(theme for theme in degrees if degrees[theme] == degree) for degree in (2, 1, -1, -2)
        )
        return cls(loves, likes, doubts, dislikes, habit)


def render(reading: Reading, person: str = "person", seed: int = 0) -> str:
    """A persona that says `reading` of a `person` ("reader"), in four to eight sentences.

    The seed picks among equivalent wordings.
    """
    likes = {2: reading.loves, 1: reading.likes}
    opening = _taste_sentences(likes, person, seed) or [_say(OPENING, person)]
    foremost = themes().get(next(iter((*reading.loves, *reading.likes)), ""))
    if foremost:
        opening.insert(1, _say(_pick(REASONS, seed, "reason"), person, why=foremost.why))
    dislikes = _taste_sentences({-1: reading.doubts, -2: reading.dislikes}, person, seed, opening)
    textures = _shuffled(TEXTURES, seed)
    before = [next(textures)]
    after: list[str] = []
    while (
        len(opening) + len(before) + len(dislikes) + len(after) < MOST_SENTENCES
        and sum(len(sentence.split()) for sentence in (*opening, *before, *dislikes, *after)) < FEWEST_WORDS
    ):
        after.append(next(textures))
    habit = [habit_sentence(reading.habit, person, seed)] if reading.habit else []
    return " ".join([*opening, *before, *dislikes, *after, *habit])


def _taste_sentences(
    named: Mapping[int, Sequence[str]], person: str, seed: int, before: Sequence[str] = ()
) -> list[str]:
    """A sentence for each degree that has themes; the first one of a persona names the person."""
    sentences: list[str] = []
    for degree, phrases in named.items():
        if phrases:
            first = not sentences and not before
            patterns = [
                pattern
                for pattern in TASTES[degree]
                if ("$person" in pattern if first else not pattern.startswith("This"))
            ]
            sentences.append(_say(_pick(patterns, seed, degree), person, themes=_join(phrases)))
    return sentences


def habit_sentence(habit: str, person: str = "person", seed: int = 0) -> str:
    """The sentence that says a phrase of HABITS or REMARKS."""
    pattern = REMARK_SENTENCE if habit in REMARKS.values() else _pick(HABIT_SENTENCES, seed, "habit")
    return _say(pattern, person, habit=habit)


@lru_cache(maxsize=4096)
def read(persona: str) -> Reading:
    """What any text says as a persona.

    Themes count by their phrase; other words of a sentence that likes or dislikes something count as themes
    of their own. A later word about a theme, or about the habit, qualifies an earlier one.
    """
    habit, rest = _take_habit(" ".join(persona.lower().split()))
    degrees = chain.from_iterable(map(_tastes, _SENTENCE.findall(rest)))
    return Reading.of(dict(islice(degrees, _MOST_READ)), habit)


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
    degree, denied = 0, False
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
            if degree:
                yield theme, degree
            else:
                pending.append(theme)


_DEGREES = {"plus2": 2, "plus1": 1, "minus1": -1, "minus2": -2}


@cache
def _habit_levels() -> dict[str, float]:
    phrases = {phrase: level for level, named in HABITS.items() for phrase in named}
    return phrases | {phrase: level for level, phrase in REMARKS.items()}


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


def _join(phrases: Sequence[str]) -> str:
    """A list in words. Many phrases have an "and" of their own, so two are not joined by another."""
    if len(phrases) < 3:
        return " as well as ".join(phrases)
    return f"{', '.join(phrases[:-1])}, and {phrases[-1]}"


def _pick(options: Sequence[str], seed: int, what: object) -> str:
    return options[crc32(f"{seed} {what}".encode()) % len(options)]


def _shuffled(options: Sequence[str], seed: int) -> Iterator[str]:
    return iter(sorted(options, key=lambda option: crc32(f"{seed} {option}".encode())))
