"""Candidates (Section 3.2, direction search): what a policy makes of a context, and what it then predicts.

A candidate is a text that the policy sampled for a context, freed of its wrapping as every persona is. Texts
that a context's samples share are one candidate. Some cannot be used, with a reason out of `REASONS`.

Departs from the paper: its prompt forbids names of items and scores, and its own personas hold them all the
same. Here that leak is measured on every candidate and, where wanted, makes it unusable.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from deeper_assets.method.asking import ChatSetup, ask_predictions
from deeper_assets.method.contexts import surrounding
from deeper_assets.method.domains import Domain
from deeper_assets.method.exceptions import UnreadableAnswer
from deeper_assets.method.histories import histories, places
from deeper_assets.method.parsing import parse_persona
from deeper_assets.method.prompts import one_line
from deeper_assets.method.protocols import Decoding, Sample, Sampler

REASONS: Mapping[str, str] = {
    "truncated": "the text was cut before it came to its end",
    "empty": "the text holds no persona",
    "echo": "the text repeats the prompt: a block, a line of ratings, or the instructions",
    "names_item": "the text names an item that the prompt shows",
    "states_score": "the text states a score",
}
"""Why a candidate cannot be used; the first that applies counts."""

ECHOED_WORDS = 8
"""Words of the instructions in a row that make an echo. The shortest instruction that models are seen to
repeat, "Do not name any item and do not state any rating", has eleven; what a persona shares with them by
chance, "tastes, values and way of judging", has six."""

CANDIDATE = ["user_id", "round", "candidate"]
"""Columns that name a candidate of one domain and one template (iteration 1) or recipe (iteration 2)."""


@dataclass(frozen=True)
class CandidateDraw:
    """How candidates are drawn from a policy.

    Attributes:
        decoding: how the policy writes.
        n: samples a context.
        seed: of the experiment.
        forbid_leaks: whether a candidate that names a shown item or states a score is unusable.
    """

    decoding: Decoding
    n: int
    seed: int
    forbid_leaks: bool = False


def sampled_for(frame: pd.DataFrame) -> list[str]:
    """The columns that say what rows were sampled for: domain, and template or recipe."""
    return [column for column in ("domain", "template", "recipe") if column in frame.columns]


def seeds(user_id: str, round_: int, n: int, seed: int) -> list[int]:
    """The seed (63 bits) of each of a context's `n` samples, by who it is for and nothing else."""
    return [_hash([seed, user_id, round_, number]) for number in range(n)]


def sample_candidates(
    contexts: pd.DataFrame,
    sampler: Sampler,
    draw: CandidateDraw,
    windows: pd.DataFrame,
    domain: Domain,
) -> pd.DataFrame:
    """Samples refinements of every context that has a prompt, in one call of the sampler.

    Args:
        contexts: contexts rows of one domain.
        sampler: the policy.
        draw: how it writes, how often, and what makes a text unusable.
        windows: rating_windows rows of the domain: which items a prompt shows.
        domain: that domain.

    Returns:
        candidates rows, one a distinct text of a context: `candidate` is the number of its first sample,
        `copies` how many samples said the same, `tokens` what the first of them took.
    """
    contexts = contexts[contexts["prompt"].notna()].assign(domain=domain.name)
    keys = sampled_for(contexts)
    contexts = contexts.sort_values([*keys, "user_id", "round"])
    wanted = contexts.to_dict("records")
    written = sampler.sample(
        [str(row["prompt"]) for row in wanted],
        [seeds(row["user_id"], row["round"], draw.n, draw.seed) for row in wanted],
        draw.decoding,
    )
    users = histories(windows[windows["user_id"].isin(contexts["user_id"])])
    rows: list[tuple[object, ...]] = []
    for context, samples in zip(wanted, written, strict=True):
        if len(samples) != draw.n:
            raise RuntimeError(f"{sampler.name} gave {len(samples)} samples of a prompt, not {draw.n}")
        shown = _Shown.of(str(context["prompt"]), str(context["persona"]))
        titles = [item.title for item in users[context["user_id"]][context["round"]]]
        of = (*(context[key] for key in keys), context["user_id"], context["round"])
        for found in _distinct(samples, shown):
            names, states = names_item(found.text, titles), states_score(found.text)
            leak = "names_item" if names else "states_score" if states else None
            unusable = found.fault or (leak if draw.forbid_leaks else None)
            row = (found.number, found.text, found.copies, found.tokens, unusable, int(names), int(states))
            rows.append((*of, *row, sampler.name))
    columns = [
        *(*keys, *CANDIDATE, "persona", "copies", "tokens"),
        *("unusable", "names_item", "states_score", "model"),
    ]
    whole = ["round", "candidate", "copies", "tokens", "names_item", "states_score"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(whole, "int64"))


def predict_candidates(
    candidates: pd.DataFrame, windows: pd.DataFrame, domain: Domain, chat: ChatSetup
) -> pd.DataFrame:
    """What every usable candidate predicts for the previous, current and future window of its context.

    A user's persona is asked about a window once, in however many contexts it is a candidate.

    Args:
        candidates: candidates rows of one domain.
        windows: rating_windows rows of that domain.
        domain: that domain.
        chat: chat model and prompts.

    Returns:
        candidate_predictions rows, one a predicted rating, for the windows that the user has.
    """
    usable = candidates[candidates["unusable"].isna()].assign(domain=domain.name)
    keys = [*sampled_for(usable), *CANDIDATE]
    usable = usable.sort_values(keys)
    windows = windows[windows["user_id"].isin(usable["user_id"])]
    users, at = histories(windows), places(windows)
    questions: dict[tuple[str, int, str], int] = {}
    asked: list[tuple[int, int, int]] = []  # row of `usable`, window, question
    for i, (user, round_, persona) in enumerate(
        zip(usable["user_id"], usable["round"], usable["persona"], strict=True)
    ):
        for window in surrounding(round_):
            if window in users[user]:
                question = questions.setdefault((user, window, persona), len(questions))
                asked.append((i, window, question))
    replies = ask_predictions(
        chat, domain, [(persona, users[user][window]) for user, window, persona in questions]
    )
    # Columns at once, not rows: a domain of the paper's size has some three million of them.
    places_of = [at[user, window] for user, window, _ in questions]
    items = [len(places_of[question]) for *_, question in asked]
    frame = usable[keys].iloc[np.repeat(np.array([i for i, *_ in asked], dtype="int64"), items)]
    answers = [(places_of[question], replies[question]) for *_, question in asked]
    ratings = (reply.value or [np.nan] * len(held) for held, reply in answers)
    return frame.assign(
        window=np.repeat(np.array([window for _, window, _ in asked], dtype="int64"), items),
        place=np.array([place for held, _ in answers for place in held], dtype="int64"),
        predicted=np.array([rating for given in ratings for rating in given], dtype="float64"),
        note=np.repeat(np.array([reply.note for _, reply in answers], dtype="object"), items),
        attempts=np.repeat(np.array([reply.attempts for _, reply in answers], dtype="int64"), items),
        model=chat.model.name,
    ).reset_index(drop=True)


def names_item(text: str, titles: Sequence[str]) -> bool:
    """Whether `text` names one of `titles`, whose words stand in it as whole words in a row.

    Case, accents, punctuation, "&" for "and", a possessive 's, what a title has in parentheses and where it
    has its article ("Matrix, The (1999)") do not count. A title of one word, or of fewer than ten letters in
    all, is often ordinary language ("Up", "Hot Dogs"); it counts only where it is written as a name: in
    quotes, or with capitals where no sentence begins. So does the part of a title before a colon or dash. A
    title of one letter never counts.
    """
    said = _Said.of(text)
    return any(
        said.holds(words) and (plain or said.holds_as_name(words))
        for title in titles
        for words, plain in _spellings(title)
    )


def states_score(text: str) -> bool:
    """Whether `text` states a score: a number, in digits or in words, in the company of marking.

    "4.5 stars", "3 out of 5", "a rating of 4", "mostly gives fives" do; "the highest mark", "two or three
    books" and "the 1990s" do not.
    """
    return _SCORE.search(one_line(text).casefold()) is not None


@dataclass(frozen=True)
class _Candidate:
    """One distinct text of a context; `fault` is the reason against it, leaks apart."""

    number: int
    text: str
    copies: int
    tokens: int
    fault: str | None


def _distinct(samples: Sequence[Sample], shown: "_Shown") -> list[_Candidate]:
    first: dict[tuple[str, str | None], int] = {}
    copies: dict[int, int] = {}
    judged = {sample: _judged(sample, shown) for sample in set(samples)}
    for number, sample in enumerate(samples):
        at = first.setdefault(judged[sample], number)
        copies[at] = copies.get(at, 0) + 1
    return [
        _Candidate(number, text, copies[number], samples[number].tokens, fault)
        for (text, fault), number in first.items()
    ]


def _judged(sample: Sample, shown: "_Shown") -> tuple[str, str | None]:
    """A sample's persona, or what text there is, and the reason against it."""
    try:
        text, fault = parse_persona(sample.text), None
    except UnreadableAnswer:
        text, fault = one_line(sample.text), "empty"
    if not sample.finished:
        return text, "truncated"
    if fault is None and shown.echoed_by(sample.text, text):
        return text, "echo"
    return text, fault


_BLOCK = re.compile(r"<(\w+)>\n(.*?)\n</\1>", re.DOTALL)
_OWN_WRAPPING = "persona"


@dataclass(frozen=True)
class _Shown:
    """What of a prompt no persona has cause to repeat.

    Attributes:
        tags: the marks of its blocks.
        lines: the lines of its blocks but the old persona, as words.
        runs: ECHOED_WORDS of its instructions in a row, wherever they begin.
        persona: the old persona; what stands in there may be repeated.
    """

    tags: tuple[str, ...]
    lines: tuple[str, ...]
    runs: tuple[str, ...]
    persona: str

    @classmethod
    def of(cls, prompt: str, persona: str) -> "_Shown":
        blocks = _BLOCK.findall(prompt)
        lines = [line for tag, body in blocks if tag != _OWN_WRAPPING for line in body.split("\n")]
        runs = [
            " ".join(words[at : at + ECHOED_WORDS])
            for part in _BLOCK.sub("\0", prompt).split("\0")
            for words in [_Said.of(part).words]
            for at in range(len(words) - ECHOED_WORDS + 1)
        ]
        old = _Said.of(persona)
        return cls(
            tuple(mark for tag, _ in blocks for mark in (f"<{tag}>", f"</{tag}>") if mark not in persona),
            tuple(line for line in (" ".join(_Said.of(line).words) for line in lines) if not old.holds(line)),
            tuple(run for run in runs if not old.holds(run)),
            persona,
        )

    def echoed_by(self, raw: str, persona: str) -> bool:
        """Whether a policy's text repeats the prompt. Tags around a persona are taken for its wrapping."""
        if any(mark in (persona if _OWN_WRAPPING in mark else raw) for mark in self.tags):
            return True
        said = _Said.of(raw)
        return any(said.holds(words) for words in (*self.lines, *self.runs))


_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s$")
_OPENS = "\"'“„‘«»*_"
_CLOSES = "\"'”“’»«*_"


@dataclass(frozen=True)
class _Said:
    """A text as words.

    Attributes:
        text: with compatible forms unified and without accents.
        words: in lower case, without possessive 's and apostrophes.
        spans: where in `text` each of them stands.
        line: the words with a space before, between and after.
    """

    text: str
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    line: str

    @classmethod
    def of(cls, text: str) -> "_Said":
        plain = text.replace("&", " and ")
        if not plain.isascii():
            plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
        found = list(_WORD.finditer(plain))
        words = tuple(
            _POSSESSIVE.sub("", match[0]).replace("'", "").replace("’", "").casefold() for match in found
        )
        return cls(plain, words, tuple(match.span() for match in found), f" {' '.join(words)} ")

    def holds(self, words: str) -> bool:
        """Whether these words, single-spaced, stand in the text in a row."""
        return bool(words) and f" {words} " in self.line

    def holds_as_name(self, words: str) -> bool:
        """Whether they do so at least once in quotes, or with capitals where no sentence begins."""
        length, at = words.count(" ") + 1, self.line.find(f" {words} ")
        while at >= 0:
            first = self.line.count(" ", 0, at)
            start, end = self.spans[first][0], self.spans[first + length - 1][1]
            if self._quoted(start, end) or (
                self.text[start].isupper()
                and not self.text[self.spans[first + length - 1][0]].islower()
                and not self._begins_sentence(start)
            ):
                return True
            at = self.line.find(f" {words} ", at + 1)
        return False

    def _quoted(self, start: int, end: int) -> bool:
        before, after = self.text[:start][-1:], self.text[end : end + 2].lstrip(".,!?")[:1]
        return before != "" and after != "" and before in _OPENS and after in _CLOSES

    def _begins_sentence(self, start: int) -> bool:
        before = self.text[max(0, start - 8) : start]
        return "\n" in before or before.rstrip(f"{_OPENS} (")[-1:] in {"", ".", "!", "?", ":", "-", "•", "#"}


_PARENTHESES = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_ARTICLE = re.compile(r"^(.+), (the|an?|le|la|les|l'|il|el|der|die|das)$", re.IGNORECASE)
_HEAD = re.compile(r"^(.+?)(?:: | [-–—] )")
_ORDINARY_LETTERS = 10


@lru_cache(maxsize=4096)
def _spellings(title: str) -> tuple[tuple[str, bool], ...]:
    """The ways to name a title, as words, and whether each counts however it is written."""
    bare = " ".join(_PARENTHESES.sub(" ", title).split())
    bare = _ARTICLE.sub(r"\2 \1", bare) or title
    head = _HEAD.match(bare)
    found: dict[str, bool] = {}
    for name, whole in ((bare, True), (title, True), *([(head[1], False)] if head else [])):
        words = _Said.of(_ARTICLE.sub(r"\2 \1", name)).words
        letters = len("".join(words))
        if letters > 1:
            found.setdefault(" ".join(words), whole and len(words) > 1 and letters >= _ORDINARY_LETTERS)
    return tuple(found.items())


_SPELLED = "two|three|four|five|six|seven|eight|nine|ten"
_DIGITS = r"(?<![\w.,])(?:100|\d{1,2})(?:\.\d++)?+(?:\s?½)?+(?!\w)"
_NUMBER = rf"(?:{_DIGITS}|½|\b(?:{_SPELLED})(?: and a half)?+\b)"
_RANGE = r"(?:(?:\s(?:to|or|and|through)\s(?:an?\s)?|\s?[-–—]\s?){number})*+"
_NUMBERS = _NUMBER + _RANGE.format(number=_NUMBER)
_AMOUNTS = _DIGITS + _RANGE.format(number=_DIGITS)
# What may come after a number that is a score; before any other word it counts things ("4 books").
_NO_NOUN = (
    r"(?=\s*+(?:$|[^\w\s$€£%°'’–—-])|\s(?:to|for|or|and|out|of|on|at|with|in|as|is|are|was|but|when|whenever"
    r"|where|if|unless|because|even|rather|than|points?|ratings?|scores?|marks?|grades?|overall|instead)\b)"
)
_FILLER = (
    r"(?:\s(?:an?|the|of|at|as|in|is|are|was|were|be|it|them|this|that|these|most|mostly|usually|often|nearly"
    r"|almost|always|only|just|about|around|roughly|from|between|above|below|over|under|near|close|to|by|with"
    r"|not|no|more|less|fewer|lower|higher|up|down|average|averaging|averages|perfect|full|solid|strong|flat"
    r"|mere|straight|low|high|good|bad|things|everything|anything)){0,6}"
)
_RATES = (
    r"\b(?:rat(?:ings?|ed?|es|ing)|scor(?:es?|ed|ing)|mark(?:s|ed|ing)?|grad(?:es?|ed|ing)|averag(?:es?|ed|ing)"
    r"|predicted|actual)(?:\s?[:=])?"
)
_GIVES = r"\b(?:gives?|gave|given|giving|awards?|awarded|awarding|hands out|perfect|solid|straight|flat)"
_SCORE = re.compile(
    "|".join(
        (
            rf"(?:{_NUMBER}|\bone(?: and a half)?)[\s-]?(?:and-a-half-)?stars?\b",
            r"[★☆⭐]",
            rf"(?:{_NUMBER}|\bone)(?: stars?)? out of (?:an? )?{_NUMBER}{_NO_NOUN}",
            r"(?<![\w./])\d{1,3}(?:\.\d++)?+\s?/\s?(?:5|10|100)(?![\w/]|\.\d)",
            r"\b(?:fours|fives|(?:10|\d(?:\.\d)?)s)\b",
            rf"(?:{_RATES}|{_GIVES}){_FILLER}\s{_NUMBERS}{_NO_NOUN}",
            rf"{_RATES}(?:\s[^\s.!?;]++){{0,4}}?\s{_AMOUNTS}{_NO_NOUN}",
            r"\b(?:ratings?|scores?|marks?|grades?) of (?:about |around )?one\b(?! (?:of|or)\b)",
        )
    )
)


def _hash(parts: Sequence[object]) -> int:
    digest = hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
